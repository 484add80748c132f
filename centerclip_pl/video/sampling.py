"""Which frames of a video to take. Pure functions of numbers.

The rules are those of CLIP4Clip (arXiv 2104.08860) and CenterCLIP (arXiv 2205.00823): the video is cut into
``clip_length`` equal stretches; evaluation takes the middle of each, training a random frame of each. A video that is
too short gives all its frames, and the last one is repeated; ``real_frames`` says how many are not repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from centerclip_pl.errors import ConfigError

FrameOrder = Literal["forward", "reverse", "shuffle"]

_ROUNDING = (
    1e-3 + 1e-9
)  # seconds; containers store milliseconds, and a tie of exactly one shall not be the floats' choice
_MOST_TIMES = 10_000_000  # 80 MB


def uniform_indices(num_frames: int, clip_length: int) -> list[int]:
    """The frames that evaluation sees: the middle of each of ``clip_length`` equal stretches.

    Args:
        num_frames: how many frames the video has, at least 1.
        clip_length: how many are wanted, at least 1.

    Returns:
        ``clip_length`` ascending indices below ``num_frames``; where the video is too short, ``0 .. num_frames - 1``
        and then the last one again and again.

    Raises:
        ConfigError: either number is below 1.
    """
    _check(num_frames, clip_length)
    if num_frames <= clip_length:
        return _all_and_last(num_frames, clip_length)
    tick = num_frames / clip_length
    return [math.floor(tick / 2 + tick * k) for k in range(clip_length)]


def segment_random_indices(num_frames: int, clip_length: int, rng: np.random.Generator) -> list[int]:
    """The frames that training sees: a random one of each of ``clip_length`` stretches of equal whole length.

    The stretches are ``w = num_frames // clip_length`` frames long and start at 0, so up to ``clip_length - 1`` frames
    at the very end are never taken, as in the published systems. (A third rule of theirs, random frames of the whole
    video where ``w`` is 0 and ``num_frames > clip_length``, can never be reached: ``w`` is then at least 1.)

    Args:
        num_frames: how many frames the video has, at least 1.
        clip_length: how many are wanted, at least 1.
        rng: where the randomness comes from; not used where the video is too short.

    Returns:
        ``clip_length`` ascending indices, as :func:`uniform_indices` where the video has fewer frames than wanted.

    Raises:
        ConfigError: either number is below 1.
    """
    _check(num_frames, clip_length)
    width = num_frames // clip_length
    if width == 0:
        return _all_and_last(num_frames, clip_length)
    return [k * width + int(offset) for k, offset in enumerate(rng.integers(0, width, size=clip_length))]


def head_indices(num_frames: int, clip_length: int) -> list[int]:
    """The first ``clip_length`` frames (CLIP4Clip's ``slice_framepos`` 0).

    Args:
        num_frames: how many frames the video has, at least 1.
        clip_length: how many are wanted, at least 1.

    Returns:
        ``clip_length`` ascending indices, as :func:`uniform_indices` where the video is too short.

    Raises:
        ConfigError: either number is below 1.
    """
    _check(num_frames, clip_length)
    return _all_and_last(num_frames, clip_length)


def tail_indices(num_frames: int, clip_length: int) -> list[int]:
    """The last ``clip_length`` frames (CLIP4Clip's ``slice_framepos`` 1); otherwise as :func:`head_indices`."""
    _check(num_frames, clip_length)
    if num_frames <= clip_length:
        return _all_and_last(num_frames, clip_length)
    return list(range(num_frames - clip_length, num_frames))


def reorder(indices: Sequence[int], order: FrameOrder, rng: np.random.Generator | None = None) -> list[int]:
    """The frames in the order in which the model is to see them (CLIP4Clip's frame orders 0, 1 and 2).

    Give it the real frames alone, so that repetitions of the last one stay at the end.

    Args:
        indices: the chosen frames.
        order: ``"forward"`` leaves them, ``"reverse"`` turns them round, ``"shuffle"`` takes a random order.
        rng: where the randomness of ``"shuffle"`` comes from; not used otherwise.

    Raises:
        ConfigError: ``order`` is none of these, or ``"shuffle"`` has no ``rng``.
    """
    if order not in get_args(FrameOrder):
        raise ConfigError(f"frame_order={order}: unknown", f"use one of {', '.join(get_args(FrameOrder))}")
    if order == "shuffle":
        if rng is None:
            raise ConfigError("frame_order=shuffle: needs a source of randomness", "pass a numpy Generator as rng")
        return [indices[int(place)] for place in rng.permutation(len(indices))]
    return list(indices) if order == "forward" else list(indices)[::-1]


def frames_at(spans: np.ndarray, fps: float, start: float | None = None, end: float | None = None) -> np.ndarray:
    """The frames that are shown at regular times: ``start``, ``start + 1 / fps``, ``start + 2 / fps``, ...

    CLIP4Clip samples raw video so, at 1 frame a second. Where ``fps`` is above the video's own rate, that is every
    frame. A time that is at most 1 ms before a frame begins counts as that frame's, because containers round times.

    Args:
        spans: float64 ``[N, 2]``, start and end of each frame in seconds after the first frame begins, ascending.
        fps: frames a second.
        start: seconds; None: 0.
        end: seconds; times at or after it are left out. None: the end of the last frame.

    Returns:
        int64 ``[M]``, ascending, each frame at most once; empty where no time lies within the video.

    Raises:
        ConfigError: ``fps`` is not a positive number.
    """
    if not (fps > 0 and math.isfinite(fps)):
        raise ConfigError(f"fps={fps:g}: must be a positive number", "use frames a second, e.g. 1")
    first = max(0.0, 0.0 if start is None else start)
    last = spans[-1, 1] if end is None else min(end, spans[-1, 1])
    number = max(0.0, last - first) * fps
    if number > _MOST_TIMES:  # no file has so many frames a second, and the times would take gigabytes
        begin, end_at = np.searchsorted(spans[:, 0], [first + _ROUNDING, last - 1e-9 + _ROUNDING], side="right")
        return np.arange(begin - 1, end_at, dtype=np.int64)
    times = first + np.arange(math.ceil(number) + 1) / fps
    times = times[times < last - 1e-9]
    # The frame that is shown at a time is the last one that began before it.
    return np.unique(np.searchsorted(spans[:, 0], times + _ROUNDING, side="right") - 1)


def real_frames(num_frames: int, clip_length: int) -> int:
    """How many of the chosen indices stand for frames of their own; the rest repeats the last frame.

    Raises:
        ConfigError: either number is below 1.
    """
    _check(num_frames, clip_length)
    return min(num_frames, clip_length)


def _all_and_last(num_frames: int, clip_length: int) -> list[int]:
    return [min(k, num_frames - 1) for k in range(clip_length)]


def _check(num_frames: int, clip_length: int) -> None:
    if num_frames < 1:
        raise ConfigError(f"num_frames={num_frames}: a video has at least one frame")
    if clip_length < 1:
        raise ConfigError(f"clip_length={clip_length}: at least one frame must be wanted", "use a positive number")
