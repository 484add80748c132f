"""One launch a run folder: a second one is refused, and told who is there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from centerclip_pl.errors import ConfigError
from centerclip_pl.files import try_lock
from centerclip_pl.launch import is_first_process

LOCK_NAME = ".run.lock"
_held: set[int] = set()  # descriptors of this process


class RunLock:
    """Keeps a run's folder for this launch until the block ends, or the process does, however that happens.

    The lock is the kernel's (``flock``): a process that was killed holds nothing, and a lock file that it has left
    behind stops nobody. Of a launch of many processes the first one alone holds it, for all of them; the loader's
    processes, which may outlive a killed one by seconds, do not.

    >>> with RunLock("runs/demo/mine"):  # doctest: +SKIP
    ...     train()

    Args:
        run_dir: the run's folder; it is there.

    Raises:
        ConfigError: on entering, where another launch has the folder (the message says which process on which machine,
            and since when), or where the folder cannot be written.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self.path = self.run_dir.absolute() / LOCK_NAME  # a run that changes its working directory finds it again
        self._file: int | None = None

    def acquire(self) -> None:
        """See the class; nothing where this process is not the launch's first, or has it already."""
        if self._file is not None or not is_first_process():
            return
        while True:
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise ConfigError(
                    f"the run's folder {self.run_dir} cannot be written: {error.strerror}",
                    "see to it that it can be written, or name another one with --run_dir=FOLDER",
                ) from error
            if not try_lock(file, self.path):
                holder = _read(file)
                os.close(file)
                raise ConfigError(
                    f"the run's folder {self.run_dir} is in use by another run{_described(holder)}",
                    "wait for its end or stop it, or name another folder with --run_dir=FOLDER",
                )
            if _is_still_at(file, self.path):
                break
            os.close(file)  # its holder has removed it between our opening and our locking it
        self._file = file
        _held.add(file)
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its holder has no name
            os.ftruncate(file, 0)
            os.write(file, json.dumps(_ourselves()).encode())

    def release(self) -> None:
        """Lets the next one in, and leaves no file."""
        if self._file is None:
            return
        file, self._file = self._file, None
        _held.discard(file)
        with contextlib.suppress(OSError):  # the folder was removed meanwhile, or made anew by somebody else
            if _is_still_at(file, self.path):
                self.path.unlink()
        os.close(file)

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_still_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _ourselves() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _read(file: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(file, 1000, 0))
    except (OSError, ValueError):  # it has not written it yet
        return {}
    return holder if isinstance(holder, dict) else {}


def _described(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "since"} <= holder.keys():
        return ""
    host = "this machine" if holder["host"] == socket.gethostname() else holder["host"]
    return f": process {holder['pid']} on {host}, since {holder['since']}"


def _let_go_in_child() -> None:
    # A forked process shares the lock as long as it has the descriptor, and may outlive us.
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
