"""Frames out of a video file.

decord decodes: it seeks, so 12 frames of a long video cost little. It has traps, and this module is the one place that
knows them:

- Where a frame cannot be decoded it returns a copy of a neighbour and says nothing, unless ``fault_tol`` is set.
- It counts and seeks by packets. In files that were cut without re-encoding (``ffmpeg -ss ... -c copy``) the first
  packets carry negative times, are decoded and never shown; decord's indices then mean different frames before and
  after a seek. Such files, and those with packets that hold no picture (AVI), are read from start to end with PyAV.
- ``get_batch`` can hang for ever in native code, where no exception reaches it. Nothing can be done about that within
  the process: :mod:`centerclip_pl.video.check` decodes in processes that it can kill, and loaders have a time limit.
- Readers must be opened in the process that reads, with one thread each. torch must be imported before decord.

Only numpy is imported at the top, so that the processes that check files start quickly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from centerclip_pl.errors import VideoError

if TYPE_CHECKING:
    from torch import Tensor

Choose = Callable[[int], Sequence[int]]
"""Given how many frames there are (at least 1), the wanted indices, ascending, repetitions allowed."""

MISSING = "does not exist"
"""The reason given for a file that is not there."""

_STRICT = 1e-9  # decord's fault_tol: 0 and negative numbers mean "never complain", a tiny share means "not one frame"
_MAX_LOST = 0.5  # packets that repeat the last picture are many in some AVI files; beyond this share it is damage
_REPLACE = "fetch the file again, or re-encode it: ffmpeg -i IN -c:v libx264 -pix_fmt yuv420p OUT.mp4"


class VideoInfo(NamedTuple):
    """What is known of a video once it has been opened and read."""

    num_frames: int
    """Frames that can be shown."""
    fps: float
    """Average frames a second."""
    duration: float
    """Seconds, from the start of the first frame to the end of the last."""
    width: int
    height: int


class Decoded(NamedTuple):
    """Frames as uint8 ``[R, H, W, 3]``, RGB, and what is known of their video."""

    frames: np.ndarray
    info: VideoInfo


class _NeedsExactReading(Exception):
    """decord's indices cannot be trusted for this file; ``packets`` pictures are to be expected."""

    def __init__(self, packets: int) -> None:
        super().__init__(packets)
        self.packets = packets


def read_frames(path: str | Path, choose: Choose, start: float | None = None, end: float | None = None) -> Tensor:
    """The chosen frames of a video file.

    Args:
        path: the file.
        choose: told how many frames there are (between ``start`` and ``end``), returns the wanted indices, ascending.
        start: seconds from the first frame; frames that end before are left out. None: from the beginning.
        end: seconds from the first frame; frames that begin at or after it are left out. None: to the end.

    Returns:
        uint8 ``[R, 3, H, W]``, RGB, one for each index that ``choose`` returned.

    Raises:
        VideoError: the file is absent, empty, no video, audio only, truncated or damaged, or has no frame between
            ``start`` and ``end``.
    """
    import torch

    frames = decode(path, choose, start, end).frames
    return torch.from_numpy(frames).permute(0, 3, 1, 2)  # (R, H, W, 3) -> (R, 3, H, W), channels last in memory


def decode(path: str | Path, choose: Choose, start: float | None = None, end: float | None = None) -> Decoded:
    """As :func:`read_frames`, as a numpy array and with the facts of the file; needs no torch."""
    _check_file(path)
    try:
        return _decode_by_seeking(path, choose, start, end)
    except _NeedsExactReading as need:
        return _decode_from_start(path, choose, start, end, need.packets)


def _decode_by_seeking(path: str | Path, choose: Choose, start: float | None, end: float | None) -> Decoded:
    import decord  # after torch wherever torch is used: the other order crashes with some builds

    decord.logging.set_level(decord.logging.QUIET)  # what FFmpeg prints is reported below, once, with the file's name
    try:
        reader = decord.VideoReader(os.fspath(path), num_threads=1, fault_tol=_STRICT)
        packets = len(reader)
        spans = np.asarray(reader.get_frame_timestamp(range(packets)), dtype=np.float64)  # (N, 2): start, end in s
        fps = float(reader.get_avg_fps())
    except (decord.DECORDError, RuntimeError, AssertionError) as error:
        raise VideoError(path, _why_unreadable(path), _REPLACE) from error
    never_shown = int((spans[:, 1] <= 1e-6).sum())  # before time 0: outside the container's edit list
    if never_shown:
        raise _NeedsExactReading(packets - never_shown)
    indices = _choose_in_window(path, spans, choose, start, end)
    try:
        frames = reader.get_batch(indices)
    except decord.DECORDLimitReachedError as error:
        raise _NeedsExactReading(packets) from error
    except decord.DECORDError as error:
        raise VideoError(path, "is damaged: some of its frames cannot be decoded", _REPLACE) from error
    return _decoded(frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames), spans, fps)


def _decode_from_start(
    path: str | Path, choose: Choose, start: float | None, end: float | None, packets: int
) -> Decoded:
    """Two passes with PyAV: count what can really be decoded, then keep what is wanted."""
    import av

    try:
        with av.open(os.fspath(path)) as container:
            fps = float(container.streams.video[0].average_rate or 0)
            shown = [frame.time for frame in container.decode(video=0)]
        if len(shown) == 0 or len(shown) < (1 - _MAX_LOST) * packets:
            raise VideoError(path, f"is damaged: only {len(shown)} of {packets} frames can be decoded", _REPLACE)
        times = np.array([index / (fps or 1) if time is None else time for index, time in enumerate(shown)])
        step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / (fps or 1)
        spans = np.stack([times, np.append(times[1:], times[-1] + step)], axis=1)
        indices = _choose_in_window(path, spans, choose, start, end)
        pictures: dict[int, np.ndarray] = {}
        wanted, last = set(indices), max(indices)
        with av.open(os.fspath(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    pictures[index] = frame.to_ndarray(format="rgb24")
                if index == last:
                    break
    except av.FFmpegError as error:
        raise VideoError(path, "is damaged: some of its frames cannot be decoded", _REPLACE) from error
    return _decoded(np.stack([pictures[index] for index in indices]), spans, fps)


def _choose_in_window(
    path: str | Path, spans: np.ndarray, choose: Choose, start: float | None, end: float | None
) -> list[int]:
    """The indices in the whole video for what ``choose`` wants of the window. ``spans`` is ``[N, 2]``, in seconds."""
    since_first = spans - spans[0, 0]
    inside = np.ones(len(spans), dtype=bool)
    if start is not None:
        inside &= since_first[:, 1] > start
    if end is not None:
        inside &= since_first[:, 0] < end
    window = np.flatnonzero(inside)
    if len(window) == 0:
        seconds = f"{0 if start is None else start:g} s and " + ("its end" if end is None else f"{end:g} s")
        raise VideoError(
            path,
            f"has no frame between {seconds} (it lasts {since_first[-1, 1]:.2f} s)",
            "correct start and end in the caption file",
        )
    return [int(window[index]) for index in choose(len(window))]


def _decoded(frames: np.ndarray, spans: np.ndarray, fps: float) -> Decoded:
    _, height, width, _ = frames.shape
    info = VideoInfo(len(spans), fps, float(spans[-1, 1] - spans[0, 0]), int(width), int(height))
    return Decoded(frames, info)


def _check_file(path: str | Path) -> None:
    """What can be said without a decoder, and better than a decoder says it."""
    try:
        with Path(path).open("rb") as file:
            if not file.read(1):
                raise VideoError(path, "is empty (0 bytes)", "fetch the file again")
    except FileNotFoundError:
        raise VideoError(path, MISSING) from None
    except IsADirectoryError:
        raise VideoError(path, "is a folder, not a video file") from None
    except OSError as error:
        raise VideoError(path, f"cannot be opened: {error.strerror}") from error


def _why_unreadable(path: str | Path) -> str:
    """decord says only "Error reading"; PyAV tells the cases apart."""
    import av

    kinds: Any
    try:
        with av.open(os.fspath(path)) as container:
            kinds = [stream.type for stream in container.streams]
    except (av.FFmpegError, ValueError):
        with Path(path).open("rb") as file:
            begins_like_mp4 = file.read(12)[4:8] == b"ftyp"
        return "is cut off: its index (moov) is missing" if begins_like_mp4 else "is not a video"
    if "video" not in kinds:
        return "has no video stream" + (" (audio only)" if "audio" in kinds else "")
    return "is damaged or cut off: its frames cannot be indexed"
