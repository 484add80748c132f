"""Embeddings on disk: what ``predict`` writes, and how to read it back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from centerclip_pl.errors import DataError
from centerclip_pl.files import replacing
from centerclip_pl.types import VideoEmbedding

_TENSORS, _VIDEOS, _TEXTS = "embeddings.safetensors", "videos.parquet", "texts.parquet"


class Embeddings(NamedTuple):
    """A split's embeddings with their ids."""

    video: VideoEmbedding
    """Segments float32 ``[V, S, D]``, not normalised, and their mask ``[V, S]``."""
    text: Tensor
    """float32 ``[Q, D]``, not normalised."""
    video_of_text: Tensor
    """int64 ``[Q]``: row of each text's video."""
    videos: pd.DataFrame
    """``V`` rows: ``video_id`` and ``path``."""
    texts: pd.DataFrame
    """``Q`` rows: ``video_id`` and ``caption``."""


def read_embeddings(folder: str | Path) -> Embeddings:
    """Reads what ``predict`` wrote.

    Raises:
        DataError: if files are absent, damaged, or do not belong together.
    """
    folder = Path(folder)
    try:
        tensors = load_file(folder / _TENSORS)
        videos, texts = pd.read_parquet(folder / _VIDEOS), pd.read_parquet(folder / _TEXTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"{folder}: no whole set of embeddings: {error}", "run `centerclip predict` again") from error
    absent = {"segments", "mask", "text", "video_of_text"} - tensors.keys()
    if absent:
        raise DataError(f"{folder / _TENSORS}: has no {', '.join(sorted(absent))}", "run `centerclip predict` again")
    if len(videos) != len(tensors["segments"]) or len(texts) != len(tensors["text"]):
        raise DataError(f"{folder}: tables and embeddings are of different runs", "run `centerclip predict` again")
    return Embeddings(
        VideoEmbedding(tensors["segments"], tensors["mask"]), tensors["text"], tensors["video_of_text"], videos, texts
    )


class EmbeddingWriter(BasePredictionWriter):
    """Writes the embeddings of ``trainer.predict``, ordered by id, each video and text once, from all processes.

    Args:
        folder: where to; three files are replaced.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__("batch")
        self.folder = Path(folder)
        self._batches: list[dict[str, Tensor]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        self._batches.append({name: value.cpu() for name, value in prediction.items()})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        names = ("video_ids", "segments", "mask", "text_ids", "video_of_text", "text")
        mine = {name: torch.cat([batch[name] for batch in self._batches]) for name in names} if self._batches else None
        self._batches = []
        parts: list[dict[str, Tensor] | None] = [mine]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, mine)
        if trainer.is_global_zero:
            whole = [part for part in parts if part is not None]
            data = cast(Any, trainer).datamodule
            self._write({name: torch.cat([part[name] for part in whole]) for name in names}, data)

    def _write(self, tensors: dict[str, Tensor], data: Any) -> None:
        video_rows, text_rows = _first_of_each(tensors["video_ids"]), _first_of_each(tensors["text_ids"])
        video_ids, text_ids = tensors["video_ids"][video_rows], tensors["text_ids"][text_rows]
        captions = data.captions(data.predict_split)
        paths = captions.drop_duplicates("video_id").set_index("video_id")["path"]
        names = [data.videos(data.predict_split)[i] for i in video_ids.tolist()]
        self.folder.mkdir(parents=True, exist_ok=True)
        position = {video: row for row, video in enumerate(video_ids.tolist())}
        owners = tensors["video_of_text"][text_rows].tolist()
        stored = {
            "segments": tensors["segments"][video_rows].contiguous(),
            "mask": tensors["mask"][video_rows].contiguous(),
            "text": tensors["text"][text_rows].contiguous(),
            "video_of_text": torch.tensor([position[video] for video in owners], dtype=torch.int64),
        }
        videos = pd.DataFrame({"video_id": names, "path": [paths[name] for name in names]})
        texts = captions.iloc[text_ids.tolist()][["video_id", "caption"]].reset_index(drop=True)
        with ExitStack() as stack:  # none is put in place before all are written
            parts = {name: stack.enter_context(replacing(self.folder / name)) for name in (_TENSORS, _VIDEOS, _TEXTS)}
            save_file(stored, parts[_TENSORS])
            videos.to_parquet(parts[_VIDEOS])
            texts.to_parquet(parts[_TEXTS])


def _first_of_each(ids: Tensor) -> Tensor:
    """Rows of the first appearance of each id, by rising id; a distributed sampler repeats some."""
    return torch.from_numpy(np.unique(ids.numpy(), return_index=True)[1])
