"""Which videos a run could not use, in the loggers: results.json alone is not seen before the test."""

from __future__ import annotations

import sys
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
    """After training and after a test: logs how many videos could not be used, and which. After a prediction, which
    writes no results.json: says so on stderr.

    - ``data/bad_videos``: their number, to all loggers.
    - ``data/bad_video_list``: a table of them, to Weights & Biases, where there are any.
    """

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer)

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bad = _bad_videos(trainer)
        if bad and trainer.is_global_zero:
            lines = [f"note: {len(bad):,} videos could not be used and have no embeddings:"]
            lines += [f"  {video['path']}: {video['reason']}" for video in bad]
            print("\n".join(lines), file=sys.stderr, flush=True)

    def _log(self, trainer: Trainer) -> None:
        bad = _bad_videos(trainer)
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_metrics({"data/bad_videos": len(bad)}, step=trainer.global_step)
            if bad and isinstance(logger, WandbLogger):
                logger.log_table(
                    "data/bad_video_list", list(COLUMNS), [[str(video[name]) for name in COLUMNS] for video in bad]
                )


def _bad_videos(trainer: Trainer) -> list[Any]:
    """Those of all processes; all must call it."""
    data = cast(CheckedData, cast(Any, trainer).datamodule)
    data.share_bad_videos()
    return data.bad_videos
