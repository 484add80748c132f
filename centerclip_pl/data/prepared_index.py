"""A folder of prepared videos: what it was made with, and which of its files are done.

``prepared.json`` holds the settings. ``index.jsonl`` gets a line for each video once it is there, with size and time of
change of its source and its own size: a process that is killed loses the file it was at, and no line can be half
believed. A ``.lock`` keeps a second process out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing, try_lock

SETTINGS_FILE = "prepared.json"
"""The file by which a folder of prepared videos is known."""
INDEX_FILE = "index.jsonl"

_RULES = 1  # raise it when the same settings come to mean another file


class Source(NamedTuple):
    """By what a source is known again."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> Source:
        """
        Raises:
            OSError: the file cannot be looked at.
        """
        status = Path(path).stat()
        return cls(status.st_size, status.st_mtime_ns)


class PreparedFolder:
    """The folder, to be used in a ``with`` block by one process at a time.

    Args:
        out: the folder; made where it does not exist.
        settings: what the files are made with, as JSON can hold it.
        overwrite: whether to forget what is there.

    Raises:
        ConfigError: the folder was made with other settings, holds something else, or another process works in it.
        DataError: the folder cannot be written.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        self.out = out
        self._settings = {"rules": _RULES, **settings}
        self._overwrite = overwrite
        self._done: dict[str, tuple[Source, int]] = {}
        self._lock: IO[str] | None = None
        self._index: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self._lock = (self.out / ".lock").open("w")
            self._take_lock()
            self._check_settings()
            self._remove_parts()
            if self._overwrite:  # the index first: old lines must not be believed of new settings
                self._write(INDEX_FILE, "")
            self._write(SETTINGS_FILE, json.dumps(self._settings, indent=1) + "\n")
            self._read_index()
        except OSError as error:
            self.__exit__(None, None, None)
            raise cannot_write(self.out, error.strerror or str(error)) from error
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._index, self._lock):
            if file is not None:
                file.close()
        self._index = self._lock = None

    def is_done(self, target: Path, source: Source | None) -> bool:
        """Whether the file is there, whole, and made of this source; None: of whatever source it was made."""
        made_of, num_bytes = self._done.get(self._name(target), (None, -1))
        if made_of is None or source not in (None, made_of):
            return False
        try:
            return target.stat().st_size == num_bytes
        except OSError:
            return False

    def add(self, target: Path, source: Source, num_bytes: int) -> None:
        """Note a file that is there now.

        Raises:
            DataError: the note cannot be written.
        """
        line = {"video": self._name(target), **source._asdict(), "bytes": num_bytes}
        try:
            if self._index is None:
                self._index = (self.out / INDEX_FILE).open("ab", buffering=0)
                if self._index.tell() > 0 and not self._ends_with_line():
                    self._index.write(b"\n")  # the rest of a line that a killed process or a full disk left
            data = json.dumps(line).encode() + b"\n"
            if self._index.write(data) != len(data):
                raise OSError("No space left on device")
        except OSError as error:
            raise cannot_write(self.out, error.strerror or str(error)) from error
        self._done[self._name(target)] = source, num_bytes

    def _name(self, target: Path) -> str:
        return target.relative_to(self.out).as_posix()

    def _take_lock(self) -> None:
        assert self._lock is not None
        if not try_lock(self._lock.fileno(), self.out):
            raise ConfigError(
                f"another process is preparing videos in {self.out}", "wait for it, or name another folder with --out"
            )

    def _check_settings(self) -> None:
        file = self.out / SETTINGS_FILE
        if not file.exists():
            others = [name for name in os.listdir(self.out) if not name.startswith(".")]
            if others:
                raise ConfigError(
                    f"out={self.out}: the folder is not empty and holds no prepared videos (e.g. {min(others)})",
                    "name a new folder, in which nothing can be overwritten",
                )
            return
        try:
            found = json.loads(file.read_text())
        except ValueError:
            found = None
        if found != self._settings and not self._overwrite:
            raise ConfigError(
                f"out={self.out}: its videos were prepared with {_shown(found)}, not with {_shown(self._settings)}",
                "use those options, name another folder with --out, or prepare them all anew with --overwrite",
            )

    def _remove_parts(self) -> None:
        """What processes that were killed have left, see :func:`centerclip_pl.files.replacing`."""
        for folder, _, names in os.walk(self.out):
            for name in names:
                if name.startswith(".") and name.endswith(".part"):
                    Path(folder, name).unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        with replacing(self.out / name) as part:
            part.write_text(text)

    def _read_index(self) -> None:
        try:
            lines = (self.out / INDEX_FILE).read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
                self._done[entry["video"]] = Source(entry["size"], entry["mtime_ns"]), entry["bytes"]
            except (ValueError, KeyError, TypeError):  # cut off; its file is made again
                continue

    def _ends_with_line(self) -> bool:
        with (self.out / INDEX_FILE).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def cannot_write(out: Path, reason: str) -> DataError:
    """What to say when nothing more can be written to a folder of prepared videos."""
    return DataError(
        f"{out} cannot be written: {reason}",
        "make room there or name another folder with --out; what is done is kept, and the same command goes on",
    )


def _shown(settings: object) -> str:
    if not isinstance(settings, dict):
        return "unknown options"
    return " ".join(f"--{key}={value:g}" for key, value in settings.items() if key != "rules")
