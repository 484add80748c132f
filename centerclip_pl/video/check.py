"""Can these video files be used? Asked before training, of all of them, in processes that can be killed.

Each file is opened and its first, middle and last frame are decoded. A decoder that hangs or crashes takes only its
own process with it: the file is reported, and the next one gets a fresh process. Results are kept in a manifest
(:mod:`centerclip_pl.video.manifest`), so that a second run asks the file system alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from centerclip_pl.cores import usable_cores
from centerclip_pl.errors import ConfigError
from centerclip_pl.video.decode import MISSING
from centerclip_pl.video.manifest import VideoCheck, load_manifest, save_manifest

_WORKER = (sys.executable, "-m", "centerclip_pl.video.check_worker")
_START_LIMIT = 120.0  # seconds for a process to import its libraries; generous, for cold network file systems
_FILES_A_WORKER = 16  # a process costs about 0.3 s, a small file about 5 ms


def check_videos(
    paths: Iterable[str | Path],
    root: str | Path,
    *,
    timeout: float = 30.0,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, VideoCheck]:
    """Open and decode each file, except those that the manifest of ``root`` knows unchanged.

    Args:
        paths: the files; repetitions are checked once.
        root: the folder of the dataset, beside which the manifest is kept.
        timeout: seconds that one file may take; a file that took longer is tried again when this number grows.
        workers: processes; None: as many as there are processors, and no more than the files are worth.
        progress: whether to show a bar (it shows only on a terminal, and only where something is to be checked).

    Returns:
        For each path, as given (``str``), a :class:`VideoCheck`; its ``problem`` is None for a good file.

    Raises:
        ConfigError: ``timeout`` or ``workers`` is not positive.
        RuntimeError: the processes cannot start at all.
    """
    if timeout <= 0:
        raise ConfigError(f"check_timeout={timeout:g}: must be positive", "use a number of seconds, e.g. 30")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: at least one process is needed")
    known = load_manifest(root)
    results: dict[str, VideoCheck] = {}
    todo: list[VideoCheck] = []
    wanted = list(dict.fromkeys(str(path) for path in paths))
    for path in wanted:
        try:
            status = Path(path).stat()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            reason = MISSING if missing else f"cannot be opened: {error.strerror}"
            results[path] = VideoCheck(path, problem=reason)  # never kept: a file that appears is looked at
            continue
        before = known.get(str(Path(path).absolute()))
        if before is not None and before.still_holds(status.st_size, status.st_mtime_ns, timeout):
            results[path] = before._replace(path=path)
        else:
            todo.append(VideoCheck(path, status.st_size, status.st_mtime_ns))
    if todo:
        if workers is None:
            workers = min(usable_cores(), 16)
        new: dict[str, VideoCheck] = {}
        try:
            _check_all(todo, timeout, min(workers, -(-len(todo) // _FILES_A_WORKER)), progress, new)
        finally:  # what is known when the user interrupts need not be found out again
            save_manifest(root, {**known, **{str(Path(path).absolute()): check for path, check in new.items()}})
        results.update(new)
    return {path: results[path] for path in wanted}


def _check_all(
    todo: Sequence[VideoCheck], timeout: float, workers: int, progress: bool, results: dict[str, VideoCheck]
) -> None:
    """Share the files out among ``workers`` threads, each with a process of its own; fill ``results`` by path."""
    pending: queue.SimpleQueue[VideoCheck] = queue.SimpleQueue()
    for entry in todo:
        pending.put(entry)
    done: queue.SimpleQueue[VideoCheck | Exception] = queue.SimpleQueue()
    stop = threading.Event()

    def serve(child: Child) -> None:
        try:
            while not stop.is_set():
                try:
                    entry = pending.get_nowait()
                except queue.Empty:
                    return
                done.put(entry._replace(**child.ask(entry.path, timeout)))
        except Exception as error:  # handed to the caller's thread, which raises it
            done.put(error)
        finally:
            child.kill()

    children = [Child(_WORKER) for _ in range(workers)]
    threads = [threading.Thread(target=serve, args=(child,), daemon=True) for child in children]
    for thread in threads:
        thread.start()
    try:
        for _ in tqdm(todo, desc="checking videos", unit="file", disable=None if progress else True):
            result = done.get()
            if isinstance(result, Exception):
                raise result
            results[result.path] = result
    finally:
        stop.set()
        for child in children:
            child.interrupt()
        for thread in threads:
            thread.join()


class Child:
    """One checking process, started when first asked and again after each death.

    Args:
        command: the program; see :mod:`centerclip_pl.video.check_worker` for what it must answer.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, path: str, timeout: float) -> dict[str, Any]:
        """The worker's answer about one file; a hang or a crash is an answer too.

        Raises:
            RuntimeError: the process cannot be started.
        """
        process = self.process or self._start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; what there is to say about that is said below
            process.stdin.write(json.dumps(path).encode() + b"\n")
        line = _line(process, timeout)
        if line is None:
            self.kill()
            return {"problem": f"was not decoded within {timeout:g} s", "timeout": timeout}
        if not line.endswith(b"\n"):
            self.kill()
            return {"problem": f"crashes the decoder (exit status {process.returncode})"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def interrupt(self) -> None:
        """From another thread: make a pending :meth:`ask` return at once."""
        if (process := self.process) is not None:
            process.kill()

    def kill(self) -> None:
        """End the process, whatever it does, and release its pipes."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[bytes]:
        # The child finds this package and its libraries where this process found them.
        search_path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = process = subprocess.Popen(
            self.command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search_path},
        )
        line = _line(process, _START_LIMIT) or b""
        greeting = json.loads(line) if line.endswith(b"\n") else {"fatal": "it ended, or said nothing"}
        if "ready" not in greeting:
            self.kill()
            command = " ".join(self.command)
            raise RuntimeError(f"the process that checks videos cannot start: {greeting['fatal']}; try: {command}")
        return process


def _line(process: subprocess.Popen[bytes], timeout: float) -> bytes | None:
    """What the process says next; not a whole line if it died, None if it says nothing for ``timeout`` seconds."""
    assert process.stdout is not None
    if not wait([process.stdout.fileno()], timeout):
        return None
    return process.stdout.readline()
