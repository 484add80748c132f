"""From whichever step a training goes on, the rest of it is that of one that was never interrupted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from centerclip_pl.training.checkpoint_files import DurableCheckpointIO
from centerclip_pl.training.last_checkpoint import LastCheckpoint
from centerclip_pl.training.loggers import RunCSVLogger
from centerclip_pl.training.resuming import ContinuedMetrics, MovedCheckpoints

EPOCH = 6  # batches


class Numbers(DataLoader[Any]):
    """Numbers in an order that follows from the epoch; a run that goes on leaves out what it has had."""

    data: Resumable
    resumes = False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resumes = True

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        done = self.data.trainer.fit_loop.batch_idx + 1 if self.resumes else 0  # type: ignore[union-attr]
        self.resumes = False
        for number, batch in enumerate(super().__iter__()):
            if number >= done:
                yield batch


class Resumable(L.LightningDataModule):
    def train_dataloader(self) -> Numbers:
        numbers = TensorDataset(torch.arange(2.0 * EPOCH))
        loader = Numbers(numbers, batch_size=2, sampler=DistributedSampler(numbers, 1, 0))
        loader.data = self
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.zeros(2)))


class Trained(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(1, 1)
        self.happened: list[Any] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        for callback in self.trainer.checkpoint_callbacks if self.trainer.training else []:
            if isinstance(callback, LastCheckpoint):
                callback.between_steps(self.trainer)
        return batch

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.happened.append((self.current_epoch, batch_idx, self.global_step, batch[0].tolist()))
        loss = self.line(batch[0][:, None] / 10).square().mean()
        self.log("train/loss", loss)
        return loss

    def on_train_epoch_start(self) -> None:
        self.happened.append(("epoch begins", self.current_epoch))

    def on_train_epoch_end(self) -> None:
        self.happened.append(("epoch ends", self.current_epoch))

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def on_validation_epoch_end(self) -> None:
        self.happened.append(("validation", self.current_epoch, self.global_step))
        self.log("val/score", random.Random(self.global_step).random())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(folder: Path, early: bool, copies: Path | None = None, **options: Any) -> dict[str, Any]:
    """Trains, or goes on where there is a checkpoint; with `copies`, keeps the folder as it is behind each step."""

    class Copied(LastCheckpoint):
        def _write(self, trainer: L.Trainer) -> None:
            super()._write(trainer)
            if copies is not None:
                shutil.copytree(folder, copies / f"{trainer.global_step}", dirs_exist_ok=True)

    checkpoints = str(folder / "checkpoints")
    best = ModelCheckpoint(checkpoints, "best", monitor="val/score", mode="max", enable_version_counter=False)
    module, last = Trained(), Copied(checkpoints, None, None, 1)
    callbacks = [best, last, MovedCheckpoints(checkpoints), ContinuedMetrics(), LearningRateMonitor("step")]
    if early:
        callbacks.append(EarlyStopping("val/score", mode="max", patience=1))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=RunCSVLogger(folder),
        callbacks=callbacks,
        plugins=[DurableCheckpointIO()],
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"max_epochs": 3} | options),
    )
    goes_on = last.path if last.path.is_file() else None
    trainer.fit(module, datamodule=Resumable(), ckpt_path=goes_on, weights_only=True)
    return {
        "weight": module.line.weight.tolist(),
        "metrics": (folder / "metrics.csv").read_text(),
        "best": (best.best_model_score, Path(best.best_model_path).name),
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "happened": module.happened,
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("options", "early"),
    [
        ({"val_check_interval": 4, "check_val_every_n_epoch": None}, False),
        ({"max_epochs": -1, "max_steps": 2 * EPOCH + 2}, False),
        ({"max_steps": 5, "accumulate_grad_batches": 2, "val_check_interval": 3}, False),
        ({"max_epochs": 6}, True),
        ({"max_epochs": 6, "min_epochs": 4, "val_check_interval": 2}, True),
    ],
)
def test_from_every_step(options: dict[str, Any], early: bool, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    expected = fit(tmp_path / "whole", early, copies, **options)
    happened = expected.pop("happened")
    steps = sorted(int(folder.name) for folder in copies.iterdir())
    assert steps[-1] == expected["step"]
    for step in steps:
        found = fit(copies / str(step), early, **options)
        rest = found.pop("happened")
        assert found == expected, f"from step {step}"
        assert rest == happened[len(happened) - len(rest) :], f"from step {step}"
        assert step < steps[-1] or not rest
