"""Ctrl-C, and SIGTERM as SLURM sends it: a training ends between two steps, where it can go on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequests(Callback):
    """Notes that a training has been asked to stop. Its place among the callbacks does not matter.

    A step is finished first; during a validation, its batch. A second signal stops at once. What the processes of a
    run have noted is put together by `LastCheckpoint`, so that all stop behind the same step.

    Lightning's own handlers are replaced while a training runs: one raises Ctrl-C in the middle of a step, where half
    of the weights may be new, another starts a collective operation within whatever is going on.

    In a SLURM job, SIGUSR1 (``sbatch --signal=SIGUSR1@90``) stops in the same way and queues the job again.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._process = 0
        self._speaks = True

    @override
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def _listen(self, trainer: Trainer) -> None:
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        self.asked, self._process, self._speaks = None, os.getpid(), trainer.is_global_zero
        requeues = (signal.SIGUSR1,) if "SLURM_JOB_ID" in os.environ else ()
        for number in (*_SIGNALS, *requeues):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGUSR1:  # as under nohup
                self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a loader's process has inherited this; Ctrl-C reaches it as well
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.asked is not None:
            self._deaf()
            raise _exception(self.asked)
        self.asked = signal.Signals(number)
        if not self._speaks:
            return
        text = f"{self.asked.name}: the training stops behind this step; once more: at once\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())  # print is not safe in a handler

    def raise_it(self, trainer: Trainer) -> None:
        """Ends the training as this process was asked to, or (where only another one was) as by SIGTERM.

        All processes of the run call it. Where one has noted SIGUSR1 all have: process 0, which queues the job again,
        may not have heard it yet.
        """
        if trainer.world_size > 1:
            requeues = self.asked == getattr(signal, "SIGUSR1", None)
            if trainer.strategy.reduce_boolean_decision(requeues, all=False):
                self.asked = signal.SIGUSR1
        self._deaf()
        raise _exception(self.asked or signal.SIGTERM)

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.asked is not None and trainer.state.fn == "fit" and trainer.world_size == 1:
            self.raise_it(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # It came behind the last step; what would follow is not wanted.
        if trainer.strategy.reduce_boolean_decision(self.asked is not None, all=False):
            self.raise_it(trainer)
        self._deaf()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        requeue = self.asked == getattr(signal, "SIGUSR1", None) and isinstance(exception, SIGTERMException)
        self._deaf()
        if requeue and trainer.is_global_zero:
            try:
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
            except OSError as error:  # as in a container
                what = f"the job cannot be queued again: scontrol: {error.strerror}"
                print(f"warning: {what}\n  -> queue it again yourself", file=sys.stderr, flush=True)

    def _deaf(self) -> None:
        """Gives the signals back to those that had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}


def _exception(number: signal.Signals) -> BaseException:
    """Lightning knows both: it calls ``on_exception`` and cleans up."""
    return KeyboardInterrupt() if number == signal.SIGINT else SIGTERMException(128 + signal.SIGTERM)
