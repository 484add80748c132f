"""Where the frames of a clip come from, and which of them are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import pandas as pd
import torch

from centerclip_pl.data.captions import video_list
from centerclip_pl.video.decode import DEFAULT_DECODER, Choose, read_frames
from centerclip_pl.video.sampling import (
    FrameOrder,
    head_indices,
    real_frames,
    reorder,
    segment_random_indices,
    tail_indices,
    uniform_indices,
)
from centerclip_pl.video.transforms import resize_and_crop

if TYPE_CHECKING:
    from torch import Tensor

    from centerclip_pl.data.frame_cache import FrameCache

Sampling = Literal["random", "uniform", "head", "tail"]
EvalSampling = Literal["uniform", "head", "tail"]

_FIXED = {"uniform": uniform_indices, "head": head_indices, "tail": tail_indices}


class FrameReader(Protocol):
    """Gives the frames of the videos of a split."""

    names: list[str]
    """What each video is called in messages: its file."""

    def __call__(self, video: int, choose: Choose) -> Tensor:
        """uint8 ``[R, 3, H, W]`` of the video in this row of the split's list, ``H`` and ``W`` the image size.

        Args:
            video: row.
            choose: told how many frames there are, returns the wanted indices, ascending.

        Raises:
            VideoError: it cannot be read.
        """


class FileReader:
    """Decodes video files.

    Args:
        table: a caption table; its videos in the order of first appearance are the rows.
        image_size: height and width of the frames in pixels.
        fps: frames a second to choose from; None: every frame of the file.
        decoder: see :mod:`~centerclip_pl.video.decode`.
    """

    def __init__(
        self, table: pd.DataFrame, image_size: int, *, fps: float | None = None, decoder: str = DEFAULT_DECODER
    ) -> None:
        videos = video_list(table)
        self.names: list[str] = videos["path"].tolist()
        self._spans = videos[["start", "end"]].to_numpy(dtype=np.float64)
        self.image_size = image_size
        self.fps = fps
        self.decoder = decoder

    def __call__(self, video: int, choose: Choose) -> Tensor:
        start, end = (None if np.isnan(second) else float(second) for second in self._spans[video])
        frames = read_frames(self.names[video], choose, start, end, fps=self.fps, decoder=self.decoder)
        return resize_and_crop(frames, self.image_size)


class CacheReader:
    """Reads a frame cache; see :mod:`~centerclip_pl.data.frame_cache`.

    Args:
        table: a caption table; its videos in the order of first appearance are the rows.
        cache: one for all splits, so that its table is read once; forked processes inherit it.
    """

    def __init__(self, table: pd.DataFrame, cache: FrameCache) -> None:
        videos = video_list(table)
        self.names: list[str] = videos["path"].tolist()
        self._ids: list[str] = videos["video_id"].tolist()
        self._cache = cache

    def __call__(self, video: int, choose: Choose) -> Tensor:
        return self._cache.read(self._ids[video], choose)


def read_clip(
    reader: FrameReader,
    video: int,
    num_frames: int,
    sampling: Sampling,
    order: FrameOrder,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """A video as the model takes it.

    Args:
        reader: where the frames come from.
        video: row of the split's list of videos.
        num_frames: T; shorter videos are filled up with a repetition of their last frame.
        sampling: ``random``: one frame of each of T stretches; ``uniform``: the middle one of each; ``head``, ``tail``:
            the first or last T.
        order: ``reverse`` and ``shuffle`` change the order of the frames that were taken, repetitions excepted.
        rng: for ``random`` and ``shuffle``.

    Returns:
        uint8 ``[T, 3, H, W]``, and bool ``[T]``, False where a frame is repeated.

    Raises:
        VideoError: the video cannot be read.
    """

    def choose(available: int) -> list[int]:
        if sampling == "random":
            indices = segment_random_indices(available, num_frames, rng)
        else:
            indices = _FIXED[sampling](available, num_frames)
        return indices[: real_frames(available, num_frames)]  # the repeated last frame is added below

    frames = reader(video, choose)
    real = len(frames)
    if order != "forward":
        frames = frames[reorder(list(range(real)), order, rng)]
    last = frames[-1:].expand(num_frames - real, -1, -1, -1)
    return torch.cat([frames, last]), torch.arange(num_frames) < real
