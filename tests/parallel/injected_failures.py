"""A callback that makes one process of a training fail; test_failing_ranks.py names it on the command line."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from centerclip_pl.errors import DataError


class Fail(Callback):
    """In process `rank`, in the second step or (`where="validation"`) the first validation behind the sanity check."""

    def __init__(self, rank: int, how: str, where: str = "training") -> None:
        self.rank, self.how, self.where = rank, how, where

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.where == "training" and trainer.current_epoch == 1 and batch_idx == 1:
            self._fail(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.where == "validation" and trainer.current_epoch == 1 and not trainer.sanity_checking:
            self._fail(trainer, pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.where == "test":
            self._fail(trainer, pl_module)

    def _fail(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.how == "nan":  # of one process's weights; the loss over the global batch is NaN in all of them
            if trainer.global_rank == self.rank:
                next(pl_module.parameters()).data.fill_(float("nan"))
            return
        if trainer.global_rank != self.rank or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
            return
        match self.how:
            case "data":
                raise DataError("video7.mp4: cannot be read", "copy it again")
            case "defect":
                raise AttributeError("a defect of the program")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
