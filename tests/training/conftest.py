"""A module and a datamodule of the smallest kind that fit, train and test in a second, for what a run reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pandas as pd
import pytest
import torch
import torchmetrics
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from centerclip_pl.types import Batch

T, SIDE, VIDEOS = 3, 16, 12


class Item(NamedTuple):
    frames: Tensor
    frame_mask: Tensor
    video: int


class Videos(torch.utils.data.Dataset[Item]):
    """Video ``v``: its frame ``t`` is plain grey of value ``10 * v + t``; only two of the frames are real."""

    def __len__(self) -> int:
        return VIDEOS

    def __getitem__(self, video: int) -> Item:
        grey = torch.arange(T, dtype=torch.uint8) + 10 * video
        return Item(grey.view(T, 1, 1, 1).expand(T, 3, SIDE, SIDE).contiguous(), torch.arange(T) < 2, video)


def collate(items: list[Item]) -> Batch:
    ids = torch.tensor([item.video for item in items])
    return Batch(
        frames=torch.stack([item.frames for item in items]),
        frame_mask=torch.stack([item.frame_mask for item in items]),
        video_ids=ids,
        input_ids=ids[:, None],
        attention_mask=torch.ones_like(ids[:, None]),
        text_ids=ids,
        video_of_text=ids,
    )


class TinyData(L.LightningDataModule):
    name = "tiny"
    select_on_test = False
    bad_videos = [{"video_id": "v99", "path": "v99.mp4", "reason": "does not exist", "split": "test"}]

    def _loader(self) -> DataLoader[Item]:
        return DataLoader(Videos(), batch_size=4, collate_fn=collate)

    train_dataloader = val_dataloader = test_dataloader = _loader

    def share_bad_videos(self) -> None: ...

    def published_videos(self, split: str) -> int | None:
        return VIDEOS + 1

    def protocol(self, split: str) -> str:
        return f"tiny-{split}"

    def counts(self) -> dict[str, dict[str, int]]:
        return {"test": {"videos": VIDEOS, "texts": VIDEOS, "missing": 1, "broken": 0}}

    def captions(self, split: str) -> pd.DataFrame:
        return pd.DataFrame({"video_id": self.videos(split), "caption": [f"grey {10 * v}" for v in range(VIDEOS)]})

    def videos(self, split: str) -> list[str]:
        return [f"v{v}" for v in range(VIDEOS)]


class NextIsBest(torchmetrics.Metric):
    """Claims that the best videos of text q are ``q - 1, q, q + 1, ...``, modulo their number: rank 2 everywhere."""

    def update(self) -> None: ...

    def compute(self) -> None: ...

    def top(self, k: int, text_ids: Tensor) -> Tensor:
        return (text_ids[:, None] - 1 + torch.arange(k)) % VIDEOS


class Tiny(L.LightningModule):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.vision = nn.Linear(3, 4)
        self.text = nn.Embedding(VIDEOS, 4)
        self.reducers = nn.ModuleList([nn.Linear(4, 4)])
        self.test_metrics = NextIsBest()
        self.recalls = [10.0, 30.0, 20.0]  # of the epochs; the second is the best
        self.trained: list[int] = []

    def encode_video(self, frames: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        return self.reducers[0](self.vision(frames.float().mean(dim=(1, 3, 4))))  # (B, T, 3, H, W) -> (B, 3)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self.text(batch["text_ids"]) @ self.encode_video(batch["frames"]).T
        loss = nn.functional.cross_entropy(logits, torch.arange(len(logits)))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/t2v/R@1", self.recalls[self.current_epoch])

    def test_step(self, batch: Batch, batch_idx: int) -> None: ...

    def on_test_epoch_end(self) -> None:
        self.log_dict({"test/t2v/R@1": 25.0, "test/v2t/R@1": 75.0})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-6)


MakeTrainer = Callable[..., L.Trainer]


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture
def tiny_data() -> TinyData:
    return TinyData()


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """``make_trainer(loggers, *callbacks, **options)``; checkpoints go to ``tmp_path/checkpoints``."""

    def make(loggers: list[Logger], *callbacks: Callback, **options: Any) -> L.Trainer:
        best = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/t2v/R@1", mode="max")
        return L.Trainer(
            accelerator="cpu",
            devices=1,
            logger=loggers,
            callbacks=[best, *callbacks],
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            **({"max_epochs": 3} | options),
        )

    return make


@pytest.fixture
def without_wandb_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No key, no settings, no W&B variable, as on a new machine; yields the home folder."""
    import wandb

    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    wandb.finish()
    wandb.teardown()  # what an earlier test has read from its environment
    yield home
    wandb.finish()
    wandb.teardown()
