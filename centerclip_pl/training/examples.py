"""A table of example queries and what was retrieved for them, as pictures, in Weights & Biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from torch import Tensor
from typing_extensions import override

if TYPE_CHECKING:
    import pandas as pd
    import wandb

FrameOf = Callable[[int], Tensor]
"""Row of a test video -> uint8 ``[3, H, W]``, RGB: the frame that stands for it."""


class SearchableData(Protocol):
    """What :class:`ExampleTable` needs of a datamodule."""

    def captions(self, split: str) -> pd.DataFrame:
        """A row a text: ``video_id``, ``caption``, ..."""

    def videos(self, split: str) -> list[str]:
        """The ids of the videos."""

    @property
    def bad_videos(self) -> list[Any]:
        """``video_id`` and ``split`` of the videos that could not be read."""


class Example(NamedTuple):
    """A query and what was found for it."""

    caption: str
    right: int
    """Row of the video that the caption describes."""
    found: list[int]
    """Rows of the best videos, best first."""

    @property
    def rank(self) -> str:
        """Where the right video is among the found ones, from 1; ``"> 5"`` if it is not."""
        return str(self.found.index(self.right) + 1) if self.right in self.found else f"> {len(self.found)}"


class ExampleTable(Callback):
    """After a test, logs ``test/examples``: queries, the right video, its rank, and the best videos with a frame each.

    Does nothing where no W&B logger is at work. Reads ``pl_module.test_metrics.top(k, text_ids)``: rows of videos, best
    first, int64 ``[q, k]``; all processes call it.

    Args:
        queries: how many, spread evenly over the test texts.
        best: how many videos for each.
        size: longer side of the pictures, in pixels.
        frame_of: where the pictures come from; by default the middle one of the frames that the test itself used
            (items of the test loader's dataset: ``frames`` uint8 ``[T, 3, H, W]`` and ``frame_mask`` bool ``[T]``).
    """

    def __init__(self, queries: int = 16, best: int = 5, size: int = 160, frame_of: FrameOf | None = None) -> None:
        self.queries, self.best, self.size = queries, best, size
        self.frame_of = frame_of

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers:
            return
        data = cast(SearchableData, cast(Any, trainer).datamodule)
        examples = self.choose(pl_module, data)
        if trainer.is_global_zero:
            frame_of = self.frame_of or _from_dataset(cast(Any, trainer.test_dataloaders).dataset)
            columns, rows = self.table(examples, data.videos("test"), frame_of)
            for logger in loggers:
                logger.log_table("test/examples", columns=columns, data=rows)

    def choose(self, pl_module: LightningModule, data: SearchableData) -> list[Example]:
        """The examples, evenly spread over the texts of the test split."""
        captions, videos = data.captions("test"), data.videos("test")
        rows = {video_id: row for row, video_id in enumerate(videos)}
        lost = {video["video_id"] for video in data.bad_videos if video["split"] == "test"} & rows.keys()
        found = np.flatnonzero(~captions["video_id"].isin(lost))
        places = np.linspace(0, len(found) - 1, min(self.queries, len(found))).round().astype(int)
        texts = found[np.unique(places)]
        best = min(self.best, len(videos) - len(lost))
        top: Tensor = cast(Any, pl_module).test_metrics.top(best, torch.as_tensor(texts))
        return [
            Example(str(captions["caption"].iloc[text]), rows[captions["video_id"].iloc[text]], found)
            for text, found in zip(texts.tolist(), top.tolist(), strict=True)
        ]

    def table(self, examples: list[Example], names: list[str], frame_of: FrameOf) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows for ``WandbLogger.log_table``; a video that several queries found is decoded once."""
        wanted = sorted({video for example in examples for video in [example.right, *example.found]})
        pictures = {video: _picture(frame_of(video), names[video], self.size) for video in wanted}
        best = max((len(example.found) for example in examples), default=0)
        columns = ["query", "right video", "rank", "right", *(f"top {place}" for place in range(1, best + 1)), "found"]
        rows = [
            [
                example.caption,
                names[example.right],
                example.rank,
                pictures[example.right],
                *(pictures[video] for video in example.found),
                ", ".join(names[video] for video in example.found),
            ]
            for example in examples
        ]
        return columns, rows


def _from_dataset(dataset: Any) -> FrameOf:
    def middle_frame(video: int) -> Tensor:
        item = dataset[video]
        real = int(item.frame_mask.sum())
        return cast(Tensor, item.frames[max(real - 1, 0) // 2])

    return middle_frame


def _picture(frame: Tensor, name: str, size: int) -> wandb.Image:
    """uint8 ``[3, H, W]`` -> a picture at most ``size`` pixels wide and high, named."""
    import wandb

    picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())  # (3, H, W) -> (H, W, 3)
    picture.thumbnail((size, size))
    return wandb.Image(picture, caption=name)
