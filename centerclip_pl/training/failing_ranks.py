"""Where several processes train, the failure of one ends all of them, within seconds, with its message alone.

Left to themselves, the others find that a connection was closed (or wait for a collective until it times out), and
their tracebacks bury the one that says why.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.exceptions import SIGTERMException, _TunerExitException
from typing_extensions import override

from centerclip_pl.errors import CenterCLIPError, ConfigError

FAILURE_FILE = "failure.txt"
"""In the run's folder: what the first process that failed had to say."""

_NOT_FAILURES = (KeyboardInterrupt, SIGTERMException, SystemExit, _TunerExitException)
_CONNECTION = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|socket (closed|error)|gloo|nccl|remote process|"
    r"unable to connect|failed to (recv|send)|TCPStore|pair closure",
    re.IGNORECASE,
)
_TIMED_OUT = re.compile(r"timed? ?out", re.IGNORECASE)
_POLL = 0.3  # seconds
_GRACE = 3.0  # seconds for the process that knows why to say so, and for the others to end in order


class FailingRanks(Callback):
    """Says once which process failed and why, and ends all of them; with one process it does nothing.

    The first to fail writes `FAILURE_FILE`, prints its message and ends; those that then find a connection closed end
    without a word. A process that was killed cannot speak: the one that started it does.

    It comes last among the callbacks: what others do on an exception is done before the process ends here.

    Args:
        run_dir: the run's folder, on a file system that all processes see.
    """

    def __init__(self, run_dir: Path) -> None:
        self.file = run_dir / FAILURE_FILE
        self._watch: threading.Thread | None = None

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1:
            return
        if trainer.is_global_zero:
            self.file.unlink(missing_ok=True)  # of a training that goes on now
        trainer.strategy.barrier()
        children = getattr(trainer.strategy.launcher, "procs", [])
        if children and self._watch is None:
            _dismiss_observer()
            self._watch = threading.Thread(target=self._watch_over, args=(trainer, children), daemon=True)
            self._watch.start()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.world_size == 1 or isinstance(exception, _NOT_FAILURES):
            return
        consequence = _is_consequence(exception)
        if consequence:  # the cause is about to be told by the process that has it, or by the one that started it
            _wait_until(self.file.exists, _GRACE)
        who = f"process {trainer.global_rank} of {trainer.world_size}"
        message = _lost(exception) if consequence else _text(exception)
        if self._is_first(f"{who}: {message}"):
            if not consequence and not isinstance(exception, CenterCLIPError):
                print("".join(traceback.format_exception(exception)), end="", file=sys.stderr)
            print(f"error: {who}: {message}", file=sys.stderr, flush=True)
        for logger in trainer.loggers:
            with suppress(Exception):  # the failure has been told; what a logger finds of it is no news
                logger.finalize("failed")
        _end(2 if isinstance(exception, CenterCLIPError) else 1, getattr(trainer.strategy.launcher, "procs", []))

    def _watch_over(self, trainer: Trainer, children: list[Any]) -> None:
        """Runs in a thread of the process that started the others."""
        while True:
            time.sleep(_POLL)
            failed = [(rank, code) for rank, child in enumerate(children, 1) if (code := child.poll())]
            if failed and trainer.state.status != TrainerStatus.FINISHED:
                break
        rank, code = failed[0]
        if code > 0:
            _wait_until(self.file.exists, 1.0)  # it will have said why
        message = f"process {trainer.global_rank + rank} of {trainer.world_size}: {_ended(code)}"
        if self._is_first(message):
            print(f"error: {message}", file=sys.stderr, flush=True)
        time.sleep(_GRACE)  # for this process's main thread, which ends in order if it was waiting for the other
        _end(1, children)

    def _is_first(self, message: str) -> bool:
        try:
            with self.file.open("x") as file:
                file.write(message + "\n")
        except FileExistsError:
            return False
        except OSError:
            return True  # better twice than never
        return True


def wait_at_most(strategy: Strategy, seconds: float) -> None:
    """Sets how long the processes wait for each other in a collective before they take one of them to hang.

    To be called before the trainer does anything.

    Raises:
        ConfigError: no positive number.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"process_timeout is {seconds}, but must be a positive number of seconds")
    if hasattr(strategy, "_timeout"):  # those of several processes; Lightning takes it in constructors alone
        strategy._timeout = timedelta(seconds=seconds)


def _is_consequence(exception: BaseException) -> bool:
    """Whether it says no more than that another process is gone."""
    if isinstance(exception, CenterCLIPError) or not isinstance(exception, (RuntimeError, ConnectionError)):
        return False
    return isinstance(exception, dist.DistError) or bool(_CONNECTION.search(str(exception)))


def _lost(exception: BaseException) -> str:
    """Where none of the others has said why."""
    reason = re.sub(r"^\[[^\]]*\] *", "", str(exception).strip()).splitlines()[0].split(". ")[0][:200]
    if _TIMED_OUT.search(str(exception)):
        problem, step = "waited in vain for another process, which hangs", "see what it does: py-spy dump --pid PID"
    else:
        problem, step = "another process ended without a word", "see whether the system killed it for its memory: dmesg"
    return f"{problem} ({reason})\n  -> {step}"


def _text(exception: BaseException) -> str:
    return str(exception) if isinstance(exception, CenterCLIPError) else f"{type(exception).__name__}: {exception}"


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code != signal.SIGKILL:
        return f"was ended by {name}"
    advice = "if memory ran out, lower --data.batch_size, --data.num_workers, or --trainer.devices"
    return f"was killed ({name}), as the system does it where memory runs out\n  -> {advice}"


def _wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)


def _dismiss_observer() -> None:
    """Lightning's own thread for this kills all processes, this one included, before anyone can say why."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer" and hasattr(thread, "_child_processes"):
            thread._child_processes = []


def _end(status: int, children: list[Any]) -> NoReturn:
    """Ends this process and those that it started, which may be waiting for it in a collective.

    Not by an exception: on its way out the interpreter would wait for threads that wait for the others.
    """
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        with suppress(Exception):
            wandb.finish(exit_code=status)
    for child in children:
        with suppress(OSError):
            child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
