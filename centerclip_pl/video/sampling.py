"""Which frames of a video to take. Pure functions of numbers.

The rules are those of CLIP4Clip (arXiv 2104.08860) and CenterCLIP (arXiv 2205.00823): the video is cut into
``clip_length`` equal stretches; evaluation takes the middle of each, training a random frame of each. A video that is
too short gives all its frames, and the last one is repeated; ``real_frames`` says how many are not repetitions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np


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
    at the very end are never taken, as in the published systems.

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
