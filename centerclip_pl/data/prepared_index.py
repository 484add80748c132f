"""A folder of prepared videos: what it was made with, and which of its files are done.

``prepared.json`` holds the dataset and the settings. ``index.jsonl`` gets a line for each video once it is there,
with size and time of change of its source and its own size: a process that is killed loses the file it was at, and no
line can be half believed. A ``.lock`` keeps a second process out.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from centerclip_pl.data.unwritable import cannot_write
from centerclip_pl.errors import ConfigError
from centerclip_pl.files import replacing, try_lock

SETTINGS_FILE = "prepared.json"
"""The file by which a folder of prepared videos is known."""
INDEX_FILE = "index.jsonl"
KEPT = "what is done is kept"

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
        dataset: its name; None: any.

    Raises:
        ConfigError: the folder is one of another dataset, was made with other settings, holds something else, or
            another process works in it.
        DataError: the folder cannot be written.
    """

    def __init__(
        self, out: Path, settings: Mapping[str, Any], overwrite: bool = False, dataset: str | None = None
    ) -> None:
        self.out = out
        self._dataset = dataset
        self._settings = {"rules": _RULES, **settings}
        self._overwrite = overwrite
        self._done: dict[str, tuple[Source, int]] = {}
        self._lock: IO[str] | None = None
        self._index: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            if self.out.exists() and not self.out.is_dir():
                raise ConfigError(f"out={self.out} is a file", "name a folder with --out")
            self.out.mkdir(parents=True, exist_ok=True)
            self._lock = (self.out / ".lock").open("w")
            self._take_lock()
            self._check_settings()
            self._remove_parts()
            if self._overwrite:  # the index first: old lines must not be believed of new settings
                self._write(INDEX_FILE, "")
            self._write(SETTINGS_FILE, json.dumps({"dataset": self._dataset, **self._settings}, indent=1) + "\n")
            self._read_index()
        except OSError as error:
            self.__exit__(None, None, None)
            raise cannot_write(self.out, error, KEPT) from error
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
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise cannot_write(self.out, error, KEPT) from error
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
        found = _read_settings(self.out)
        dataset = None if found is None else found.pop("dataset", None)
        if self._dataset is None:
            self._dataset = dataset
        if dataset not in (None, self._dataset):
            raise ConfigError(
                f"out={self.out}: these are prepared videos of another dataset: {dataset}, not {self._dataset}",
                "name another folder with --out",
            )
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


def prepared_with(folder: str | Path) -> str:
    """How the videos of a folder were prepared, as options of ``data prepare``: ``"--fps=3 --size=224 --crf=20"``."""
    found = _read_settings(Path(folder))
    return _shown(None if found is None else {name: value for name, value in found.items() if name != "dataset"})


def _read_settings(folder: Path) -> dict[str, Any] | None:
    """What is in ``prepared.json``; None where it holds nothing of the kind."""
    try:
        found = json.loads((folder / SETTINGS_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _shown(settings: object) -> str:
    if not isinstance(settings, dict):
        return "unknown options"
    shown = {key: f"{value:g}" if isinstance(value, int | float) else value for key, value in settings.items()}
    return " ".join(f"--{key}={value}" for key, value in shown.items() if key != "rules")
