"""One run of a sweep in a process of its own, with a lock that lasts as long as that process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from centerclip_pl.files import try_lock
from centerclip_pl.sweeps.trials import Trial

LOG_FILE, LOCK_FILE = "log.txt", ".trial.lock"
PROGRAM = (sys.executable, "-m", "centerclip_pl")
_TAIL_BYTES = 20_000


class TrialLock:
    """Held by whoever works on a trial, and by the process that it starts: also after the starter was killed.

    Args:
        trial: whose folder holds the lock file.
    """

    def __init__(self, trial: Trial) -> None:
        trial.folder.mkdir(parents=True, exist_ok=True)
        self.path = trial.folder / LOCK_FILE
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self.held = try_lock(self._file, self.path)

    @property
    def descriptor(self) -> int:
        """To be passed on to the process."""
        return self._file

    def try_again(self) -> bool:
        """Whether the lock is held now."""
        self.held = self.held or try_lock(self._file, self.path)
        return self.held

    def close(self) -> None:
        """Lets go of it, as far as this process is concerned."""
        os.close(self._file)


@dataclass
class TrialProcess:
    """A run's process.

    Attributes:
        trial: what runs.
        process: the child.
        lock: held by both.
        slot: its place among those that run at a time.
        resumed: whether it went on from a checkpoint.
        started: ``time.monotonic()``.
        stopping: whether the search has asked it to end.
    """

    trial: Trial
    process: subprocess.Popen[bytes]
    lock: TrialLock
    slot: int
    resumed: bool
    started: float
    stopping: bool = False

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    def ask_to_stop(self) -> None:
        """Lets it end by itself: Lightning writes a checkpoint on SIGTERM."""
        self.stopping = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, patience: float) -> None:
        """Ends it and everything that it started, at once after ``patience`` seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # loaders and what else is left of its group
        self.process.wait()
        self.lock.close()


def start(
    trial: Trial,
    words: Sequence[str],
    lock: TrialLock,
    environment: Mapping[str, str],
    slot: int = 0,
    program: Sequence[str] = PROGRAM,
) -> TrialProcess:
    """Starts ``centerclip`` for a trial; its output is added to ``log.txt`` in the trial's folder.

    Args:
        trial: what to run; its folder becomes the run's.
        words: behind ``centerclip``.
        lock: held by the caller.
        environment: of the process.
        slot: its place among those that run at a time.
        program: what is started.
    """
    command = [*program, *words, f"--run_dir={trial.folder}"]
    resumed = (trial.folder / "checkpoints" / "last.ckpt").is_file()
    with (trial.folder / LOG_FILE).open("ab") as log:
        _head(log, trial, command[len(program) :])
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=(lock.descriptor,),
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which asks its runs to end
        )
    return TrialProcess(trial, process, lock, slot, resumed, time.monotonic())


def failure(trial: Trial, status: int) -> str:
    """Why a run ended with ``status``, in a line: what it said itself, where it said it as an error."""
    by_itself = f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
    lines = _tail(trial.folder / LOG_FILE)
    errors = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        said = lines[errors[-1]].removeprefix("error: ").strip()
        hint = "".join(lines[errors[-1] + 1 : errors[-1] + 2]).strip()
        return f"{said} {hint}" if hint.startswith("-> ") else said
    raised = [line for line in lines if line and not line[0].isspace() and "Error" in line.partition(":")[0]]
    return f"{by_itself}: {raised[-1].strip()}" if raised else by_itself


def blames_checkpoint(trial: Trial, status: int) -> bool:
    """Whether a run that went on from ``last.ckpt`` says that this file is what it failed of.

    A full disk, too little memory or a signal is nothing that beginning anew would mend, and costs what was trained.
    """
    return status > 0 and "last.ckpt" in failure(trial, status)


def _head(log: IO[bytes], trial: Trial, words: Sequence[str]) -> None:
    from centerclip_pl.training.masking import mask_command

    shown = mask_command(["centerclip", *words])
    log.write(f"\n--- attempt {trial.attempts}, {time.strftime('%Y-%m-%d %H:%M:%S')}: {shown}\n".encode())
    log.flush()


def _tail(file: Path) -> list[str]:
    """The lines of the last attempt in a log, as far as they are near its end."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition("\n--- attempt ")[2].replace("\r", "\n").splitlines()
