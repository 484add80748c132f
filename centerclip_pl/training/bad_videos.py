"""Which videos a run could not use, in the loggers: results.json alone is not seen before the test."""

from __future__ import annotations

from typing import Any, Protocol, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from typing_extensions import override

COLUMNS = ("video_id", "split", "path", "reason")


class CheckedData(Protocol):
    """What :class:`BadVideoTable` asks of a datamodule."""

    @property
    def bad_videos(self) -> list[Any]:
        """Of each video that cannot be used the values of ``COLUMNS``."""

    def share_bad_videos(self) -> None:
        """Let every process know what the others could not read."""


class BadVideoTable(Callback):
    """After training and after a test: logs how many videos could not be used, and which.

    - ``data/bad_videos``: their number, to all loggers.
    - ``data/bad_video_list``: a table of them, to Weights & Biases, where there are any.
    """

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer)

    def _log(self, trainer: Trainer) -> None:
        data = cast(CheckedData, cast(Any, trainer).datamodule)
        data.share_bad_videos()
        if not trainer.is_global_zero:
            return
        bad = data.bad_videos
        for logger in trainer.loggers:
            logger.log_metrics({"data/bad_videos": len(bad)}, step=trainer.global_step)
            if bad and isinstance(logger, WandbLogger):
                logger.log_table(
                    "data/bad_video_list", list(COLUMNS), [[str(video[name]) for name in COLUMNS] for video in bad]
                )
