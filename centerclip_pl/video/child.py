"""A process of one's own that may be killed: asked in lines of JSON, with a time limit for each answer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

_START_LIMIT = 120.0  # seconds for a process to import its libraries; generous, for cold network file systems


class Child:
    """One process, started when first asked and again after each death.

    Args:
        command: the program; see :mod:`centerclip_pl.video.check_worker` for what it must answer.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.process: subprocess.Popen[bytes] | None = None
        self.is_interrupted = False
        """Whether nothing more is to be asked."""

    def ask(self, request: Any, timeout: float) -> dict[str, Any]:
        """The worker's answer about one file; a hang or a crash is an answer too.

        Args:
            request: what JSON can hold; the path of a file, for the checking process.
            timeout: seconds to wait for the answer.

        Raises:
            RuntimeError: the process cannot be started.
        """
        process = self.process or self._start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; what there is to say about that is said below
            process.stdin.write(json.dumps(request).encode() + b"\n")
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
        """From another thread: make a pending :meth:`ask` return at once, and let no other follow."""
        self.is_interrupted = True
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
            raise RuntimeError(f"a process that reads videos cannot start: {greeting['fatal']}; try: {command}")
        return process


def _line(process: subprocess.Popen[bytes], timeout: float) -> bytes | None:
    """What the process says next; not a whole line if it died, None if it says nothing for ``timeout`` seconds."""
    assert process.stdout is not None
    if not wait([process.stdout.fileno()], timeout):
        return None
    return process.stdout.readline()
