"""A video file as the clip that a model is tested with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from centerclip_pl.video.decode import read_frames
from centerclip_pl.video.sampling import uniform_indices
from centerclip_pl.video.transforms import resize_and_crop


class Clip(NamedTuple):
    """Frames of a video."""

    frames: Tensor
    """uint8 ``[T, 3, size, size]``; where the video has fewer frames the last one is repeated."""
    available: int
    """Frames that the video has."""


def read_clip(path: str | Path, num_frames: int, size: int) -> Clip:
    """The frames of a video in equal steps, as evaluation takes them, scaled and cut to a square.

    Args:
        path: the file.
        num_frames: T.
        size: height and width, in pixels.

    Raises:
        VideoError: the file cannot be used.
    """
    available = 0

    def choose(count: int) -> list[int]:
        nonlocal available
        available = count
        return uniform_indices(count, num_frames)

    frames = resize_and_crop(read_frames(path, choose), size)
    return Clip(frames, available)
