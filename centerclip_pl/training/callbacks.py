"""What a run says about itself: speed while it trains; after a test, results.json and a table of examples."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from typing_extensions import override

from centerclip_pl.training.bad_videos import BadVideoTable
from centerclip_pl.training.cost import MEBIBYTE, Cost, measure_cost
from centerclip_pl.training.examples import ExampleTable
from centerclip_pl.training.postprocess import PostProcessing
from centerclip_pl.training.ranks_file import FILE_NAME as RANKS_FILE
from centerclip_pl.training.results import Counts, Results, Selection, make_results, write_results
from centerclip_pl.training.selection import describe_selection
from centerclip_pl.training.wandb_results import keep_results

__all__ = ["BadVideoTable", "ExampleTable", "ReportedData", "ResultsWriter", "ThroughputLogger"]


class ThroughputLogger(Callback):
    """Logs how fast training goes and how much of the time it waits for data.

    - ``train/videos_per_second``: over all processes, validation left out.
    - ``train/data_wait_share``: the share of the time between the end of a step and the start of the next, in which the
      loader had no batch ready; in [0, 1]. Near 0 is good; more workers help against more. On a GPU, whose work is
      queued, it is an upper bound.
    - ``train/peak_memory_mb``: on a GPU, the most that tensors have held since training began, in MiB.

    Args:
        window: the figures are means over that many last steps.
    """

    def __init__(self, window: int = 20) -> None:
        self._steps: deque[tuple[float, float, int]] = deque(maxlen=window)  # seconds waited, worked; videos
        self._idle_since: float | None = None
        self._started = 0.0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps.clear()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._idle_since = time.perf_counter()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._idle_since = time.perf_counter()

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._started = time.perf_counter()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        waited = 0.0 if self._idle_since is None else self._started - self._idle_since
        self._idle_since = now
        self._steps.append((waited, now - self._started, _videos(batch)))
        wait, work, videos = (sum(column) for column in zip(*self._steps, strict=True))
        figures = {
            "train/videos_per_second": trainer.world_size * videos / (wait + work),
            "train/data_wait_share": wait / (wait + work),
        }
        if pl_module.device.type == "cuda":
            figures["train/peak_memory_mb"] = torch.cuda.max_memory_allocated(pl_module.device) / MEBIBYTE
        pl_module.log_dict(figures, batch_size=1)


class ReportedData(Protocol):
    """What :class:`ResultsWriter` asks of a datamodule."""

    name: str
    select_on_test: bool

    @property
    def bad_videos(self) -> list[Any]:
        """Of each video left out ``video_id``, ``path``, ``reason`` and ``split``."""

    def share_bad_videos(self) -> None:
        """Let every process know what the others could not read."""

    def protocol(self, split: str) -> str:
        """What figures on this split may be compared with."""

    def counts(self) -> dict[str, dict[str, int]]:
        """For each split ``videos``, ``texts``, ``missing`` and ``broken``."""

    def published_videos(self, split: str) -> int | None:
        """How many videos the split has as published."""


class ResultsWriter(Callback):
    """Writes ``<run_dir>/results.json`` at the end of a test, and logs the cost as ``cost/...``.

    W&B keeps the results as well, and the ``ranks.parquet`` that lies beside them.

    Metrics are the ``test/...`` that the module logged; facts about the data are the datamodule's (``ReportedData``);
    how the weights were chosen is read off the checkpoint; cost is measured on the first video of the test.

    Args:
        run_dir: the run's folder.
        seed: of the run; by default what Lightning's ``seed_everything`` was given.
        started: ``time.perf_counter()`` at the start of the command; by default when this object was made.
        selection: how the weights were chosen, where the caller knows better than the checkpoint does.
        measure: whether to measure the cost; some seconds.
        repetitions: of the measurement.
        postprocessing: whose figures are written as ``transductive``; it comes before this among the callbacks.

    Attributes:
        results: what was written last; None before.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        seed: int | None = None,
        started: float | None = None,
        selection: Selection | None = None,
        measure: bool = True,
        repetitions: int = 5,
        postprocessing: PostProcessing | None = None,
    ) -> None:
        self.run_dir = Path(run_dir)
        self.seed = seed
        self.started = time.perf_counter() if started is None else started
        self.selection = selection
        self.measure = measure
        self.repetitions = repetitions
        self.postprocessing = postprocessing
        self.results: Results | None = None
        self._example: tuple[Tensor, Tensor | None] | None = None

    @property
    def path(self) -> Path:
        """Where the results are written."""
        return self.run_dir / "results.json"

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._example = None

    @override
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.measure and self._example is None and trainer.is_global_zero:
            # Every frame counts, as in a video that is long enough: its cost is what videos are compared by.
            self._example = batch["frames"][:1].clone(), torch.ones_like(batch["frame_mask"][:1])

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = cast(ReportedData, cast(Any, trainer).datamodule)
        data.share_bad_videos()
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        selection = self.selection or describe_selection(trainer, "test" if data.select_on_test else None)
        self.results = make_results(
            dataset=data.name,
            split="test",
            protocol=data.protocol("test") + (" (partial)" if _is_partial(trainer) else ""),
            selection=selection,
            metrics=metrics,
            cost=self._cost(trainer, pl_module),
            counts=_counts(data),
            seed=_global_seed() if self.seed is None else self.seed,
            duration_seconds=time.perf_counter() - self.started,
            run_dir=self.run_dir,
            transductive=None if self.postprocessing is None else self.postprocessing.figures,
            transductive_parameters=None if self.postprocessing is None else self.postprocessing.parameters,
        )
        write_results(self.path, self.results)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                keep_results(logger.experiment, self.results, self.run_dir / RANKS_FILE)
        cost = self.results["cost"]
        if cost is not None:
            figures = {f"cost/{name}": float(value) for name, value in cost.items() if isinstance(value, float)}
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=trainer.global_step)

    def _cost(self, trainer: Trainer, pl_module: LightningModule) -> Cost | None:
        if self._example is None:
            return None
        frames, mask = self._example
        self._example = None
        return measure_cost(pl_module, frames, mask, repetitions=self.repetitions, autocast=autocast_of(trainer))


def autocast_of(trainer: Trainer) -> torch.dtype | None:
    """The dtype that a trainer's evaluation runs under where that is not the weights' own."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(trainer.precision))


def _counts(data: ReportedData) -> Counts:
    splits = data.counts()
    test = splits["test"]
    return Counts(
        videos=test["videos"],
        texts=test["texts"],
        missing_videos=test["missing"],
        broken_videos=test["broken"],
        published_videos=data.published_videos("test"),
        bad_videos=[dict(video) for video in data.bad_videos],
        splits=splits,
    )


def _is_partial(trainer: Trainer) -> bool:
    """Whether the test left batches out, by ``limit_test_batches`` or ``fast_dev_run``."""
    return bool(cast(Any, trainer).fast_dev_run) or trainer.limit_test_batches not in (1.0, None)


def _global_seed() -> int | None:
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed else None


def _videos(batch: Any) -> int:
    """Videos in a batch (``centerclip_pl.types.Batch``)."""
    return len(cast("Tensor", cast("Mapping[str, Any]", batch)["video_ids"]))
