"""``last.ckpt``: the state from which a training goes on exactly, written between steps and at the end of an epoch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from typing_extensions import override

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.checkpoint_files import LAST_NAME, keep_previous
from centerclip_pl.training.stopping import StopRequests

_ENDED_EARLY = "centerclip_ended_early"


class LastCheckpoint(ModelCheckpoint):
    """Writes ``last.ckpt``; what was there before stays as ``previous.ckpt``.

    It is written at the end of each epoch, within an epoch every so many minutes or steps, and when the training is
    asked to stop. A run that ends by an error of its own leaves the checkpoint before the error, not the state that
    led to it.

    Within an epoch it is written where nothing is half done: one step is over with its validation and its logging, the
    next has not begun, and no gradient waits for more batches.

    Args:
        dirpath: the folder.
        stop: what notes that the training is to stop; one of the trainer's callbacks.
        every_minutes: write when so many have passed since the last time (by a clock that no one sets); None: only at
            the end of an epoch.
        every_steps: write after so many steps of the optimizer; None: by minutes alone.

    Raises:
        ConfigError: numbers that cannot work.
    """

    def __init__(
        self,
        dirpath: str,
        stop: StopRequests | None = None,
        every_minutes: float | None = 10.0,
        every_steps: int | None = None,
    ) -> None:
        for name, value in (("every_minutes", every_minutes), ("every_steps", every_steps)):
            if value is not None and not value > 0:
                raise ConfigError(f"resume.{name} is {value}, but must be above 0", "leave it out or say null")
        super().__init__(
            dirpath,
            filename=LAST_NAME.removesuffix(".ckpt"),
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.stop = stop
        self.every_minutes = every_minutes
        self.every_steps = every_steps
        self._written_at = time.monotonic()
        self._written_step = -1
        self._writing = False
        self._max_steps: int | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return Path(str(self.dirpath)) / LAST_NAME

    # Lightning's own reasons to write, but for the end of an epoch, are not wanted: the loops are elsewhere then.

    @override
    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None: ...

    @override
    def on_validation_end(self, *args: Any, **kwargs: Any) -> None: ...

    @override
    def on_exception(self, *args: Any, **kwargs: Any) -> None: ...

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning keeps it nowhere, so a run that early stopping has ended would go on.
        checkpoint[_ENDED_EARLY] = self._writing and trainer.should_stop and not _out_of_time(trainer)

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit":
            return
        if checkpoint.get(_ENDED_EARLY):
            trainer.should_stop = True
        epochs, steps = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"], trainer.max_steps
        if epochs["ready"] != epochs["processed"]:
            return
        epochs["completed"] = epochs["processed"]  # Lightning would say so only where there is more to train
        # Where steps are counted, Lightning takes every epoch for one that was interrupted, also one that is over: it
        # would end a second time, and the data of the next one would be left out. So they are not counted until then.
        if checkpoint["global_step"] < steps:
            self._max_steps, trainer.fit_loop.epoch_loop.max_steps = steps, -1

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None
        super().on_train_start(trainer, pl_module)
        self._written_at = time.monotonic()
        self._written_step = trainer.global_step

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.fast_dev_run and trainer.state.fn == "fit":  # type: ignore[attr-defined]
            self._write(trainer)

    def between_steps(self, trainer: Trainer) -> None:
        """To be called by the module when a training batch has come, before anything is done with it.

        Raises:
            KeyboardInterrupt, SIGTERMException: the training was asked to stop; its state has been written.
        """
        asked = None if self.stop is None else self.stop.asked
        stop, write = asked is not None, asked is not None or self._is_due(trainer)
        if trainer.world_size > 1:  # rank 0 looks at the clock, and a signal may have reached only some
            decide = trainer.strategy.reduce_boolean_decision
            write = decide(write, all=False)
            stop = write and decide(stop, all=False)
        batches = trainer.fit_loop.batch_idx + 1  # of the epoch, that are done
        whole = batches > 0 and batches % trainer.accumulate_grad_batches == 0
        new = trainer.global_step != self._written_step and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if write and whole and new:
            with _as_before_this_batch(trainer):
                self._write(trainer)
        if stop and self.stop is not None:
            self.stop.raise_it(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        if not trainer.is_global_zero:
            return False
        if self.every_steps is not None and trainer.global_step - self._written_step >= self.every_steps:
            return True
        return self.every_minutes is not None and time.monotonic() - self._written_at >= 60 * self.every_minutes

    def _write(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # figures of steps that a resumed run does not repeat
        if trainer.is_global_zero:
            keep_previous(self.path)
        self.best_model_path = str(self.path)
        self._written_step = trainer.global_step
        self._writing = True
        try:
            self._save_checkpoint(trainer, str(self.path))
        finally:
            self._writing = False
        self._written_at = time.monotonic()


def _out_of_time(trainer: Any) -> bool:
    """Whether ``max_time`` is over, of which a run that goes on may get more."""
    left = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]
    return any(seconds is not None and seconds <= 0 for seconds in left)


@contextlib.contextmanager
def _as_before_this_batch(trainer: Any) -> Iterator[None]:
    """Two of Lightning's notes as they were when the last step ended, for what is written now."""
    loop = trainer.fit_loop.epoch_loop
    noted = loop.batch_progress.is_last_batch, loop._batches_that_stepped
    loop.batch_progress.is_last_batch = False  # it is already set for the batch that has come
    # Where the last step was followed by a validation, a run that goes on counts that step once more.
    validated = trainer._val_check_time_interval is None and loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    loop._batches_that_stepped -= int(validated)
    try:
        yield
    finally:
        loop.batch_progress.is_last_batch, loop._batches_that_stepped = noted
