"""What the decoders share: which frames are asked for, when each is shown, what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from centerclip_pl.errors import VideoError
from centerclip_pl.video.sampling import frames_at

Choose = Callable[[int], Sequence[int]]
"""Given how many frames there are (at least 1), the wanted indices, in any order, repetitions allowed."""

REPLACE = "fetch the file again, or re-encode it: ffmpeg -i IN -c:v libx264 -pix_fmt yuv420p OUT.mp4"
"""The next step for a file that is damaged."""


class VideoInfo(NamedTuple):
    """What is known of a video once it has been opened and read."""

    num_frames: int
    """Frames that can be shown."""
    fps: float
    """Average frames a second."""
    duration: float
    """Seconds, from the start of the first frame to the end of the last."""
    width: int
    """Pixels, as shown: after a turn that the file asks for."""
    height: int


class Decoded(NamedTuple):
    """Frames as uint8 ``[R, H, W, 3]``, RGB, and what is known of their video."""

    frames: np.ndarray
    info: VideoInfo


class Request(NamedTuple):
    """Which frames of which file, see :func:`centerclip_pl.video.decode.read_frames`."""

    path: str
    choose: Choose
    start: float | None = None
    end: float | None = None
    fps: float | None = None

    def indices(self, spans: np.ndarray) -> list[int]:
        """The indices in the whole video that are wanted.

        Args:
            spans: float64 ``[N, 2]``, start and end of each frame in seconds, ascending.

        Raises:
            VideoError: no frame lies between ``start`` and ``end``.
            ConfigError: ``fps`` is not positive.
        """
        since_first = spans - spans[0, 0]
        if self.fps is None:
            inside = np.ones(len(spans), dtype=bool)
            if self.start is not None:
                inside &= since_first[:, 1] > self.start
            if self.end is not None:
                inside &= since_first[:, 0] < self.end
            candidates = np.flatnonzero(inside)
        else:
            candidates = frames_at(since_first, self.fps, self.start, self.end)
        if len(candidates) == 0:
            begin = 0 if self.start is None else self.start
            end = "its end" if self.end is None else f"{self.end:g} s"
            raise VideoError(
                self.path,
                f"has no frame between {begin:g} s and {end} (it lasts {since_first[-1, 1]:.2f} s)",
                "correct start and end in the caption file",
            )
        return [int(candidates[index]) for index in self.choose(len(candidates))]


def spans_of(starts: np.ndarray, last: float) -> np.ndarray:
    """Each frame is shown until the next one. ``starts`` ``[N]`` ascending, ``last`` the last one's length, seconds."""
    return np.stack([starts, np.append(starts[1:], starts[-1] + max(last, 0.0))], axis=1)


def decoded(frames: np.ndarray, spans: np.ndarray, fps: float) -> Decoded:
    """Frames ``[R, H, W, 3]`` with the facts that follow from ``spans`` ``[N, 2]``; ``fps`` 0: not known."""
    _, height, width, _ = frames.shape
    duration = float(spans[-1, 1] - spans[0, 0])
    fps = fps or (len(spans) / duration if duration > 0 else 0.0)
    return Decoded(frames, VideoInfo(len(spans), fps, duration, int(width), int(height)))
