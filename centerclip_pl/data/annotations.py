"""What the readers of published datasets share: annotation files that are read whole or refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from centerclip_pl.errors import DataError

_KINDS = (  # how a file begins that is no text, or not the text that was meant
    (b"\x1f\x8b", "gzip-compressed: unpack it"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xfe", "text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16: save it as UTF-8"),
    (b"<!DOCTYPE", "a web page, not the file that was to be downloaded"),
    (b"<html", "a web page, not the file that was to be downloaded"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
)
_SHOWN = 3  # how many ids or lines a message lists


class Annotations:
    """The annotation files of one dataset. Every error names the file, and what is to be done.

    Args:
        root: the folder of the dataset.
        folders: where below it the files may lie, first choice first.
        next_step: what to put where, and from whom to get it.
    """

    def __init__(self, root: Path, folders: Sequence[str], next_step: str) -> None:
        self.root = root
        self.folders = folders
        self.next_step = next_step

    def find(self, name: str) -> Path | None:
        """Where a file lies; None: nowhere.

        Raises:
            DataError: there is a folder in its place, or it cannot be asked for.
        """
        for folder in self.folders:
            path = self.root / folder / name
            try:
                if path.is_file():
                    return path
                if path.is_dir():
                    raise DataError(f"{path} is a folder, not a file", self.anew(path))
            except OSError as error:
                raise unreadable(path, error) from error
        return None

    def require(self, name: str) -> Path:
        """Where a file lies that must be there.

        Raises:
            DataError: as for :meth:`find`; or it is nowhere.
        """
        path = self.find(name)
        if path is None:
            raise DataError(f"{self.root / name} does not exist", self.next_step)
        return path

    def anew(self, file: Path) -> str:
        """The next step where a file of the dataset is damaged or another: downloads leave alone what is there."""
        return f"remove {file} (or replace it), then:\n     {self.next_step}"

    def text(self, file: Path) -> str:
        """The file's text, which is UTF-8 with or without a byte-order mark.

        Raises:
            DataError: it cannot be read, is empty, or is no such text.
        """
        content = read_bytes(file, self.anew(file))
        for start, kind in _KINDS:
            if content[: len(start)].lower() == start.lower():
                raise DataError(f"{file} is {kind}", self.anew(file))
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file} is not UTF-8 text (byte {content[error.start]:#04x} at position {error.start}): "
                "save it as UTF-8",
                self.anew(file),
            ) from error
        if "\0" in text:
            raise DataError(f"{file} is not UTF-8 text: it holds NUL characters, as UTF-16 does", self.anew(file))
        if not text.strip():
            raise DataError(f"{file} is empty", self.anew(file))
        return text

    def lines(self, file: Path) -> Iterator[tuple[int, str]]:
        """Each line that is not blank, without its end, and its number from 1. A last line without an end is a line.

        Raises:
            DataError: as for :meth:`text`.
        """
        # Not str.splitlines, which ends lines at characters that published sentences may hold.
        for number, line in enumerate(io.StringIO(self.text(file), newline=None), start=1):
            if line.strip():
                yield number, line.rstrip("\n")

    def names(self, file: Path) -> list[str]:
        """The names in a list with one name a line.

        Raises:
            DataError: as for :meth:`text`; a name comes twice; a line holds a tab, a comma or anything like JSON.
        """
        names: dict[str, int] = {}
        for number, line in self.lines(file):
            name = line.strip()
            if "\t" in name or name[0] in "[{\"'" or "," in name:
                raise DataError(f"{file}, line {number}: not one name a line, but {name[:60]!r}", self.anew(file))
            if name in names:
                raise DataError(
                    f"{file}, lines {names[name]} and {number}: {name} comes twice", "delete one of the lines"
                )
            names[name] = number
        return list(names)

    def json(self, file: Path, shape: str, read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the file's JSON value.

        Args:
            file: the file.
            shape: what it should hold, for the message: ``'with a list of ids'``.
            read: raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError`` where the shape is another.

        Raises:
            DataError: as for :meth:`text`; it is not JSON, names a key twice in one object, or has another shape.
        """
        text = self.text(file)
        try:
            return read(json.loads(text, object_pairs_hook=unique_keys))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{file} is not the JSON file {shape} ({type(error).__name__}: {error})", self.anew(file)
            ) from error

    def table(self, file: Path, columns: Sequence[str]) -> tuple[list[dict[str, str]], list[int]]:
        """The rows of a CSV file with a header, and the number of each row's last line.

        Raises:
            DataError: as for :meth:`text`; a column is absent, there is no row or one is too long, or it is not CSV.
        """
        reader = csv.DictReader(io.StringIO(self.text(file), newline=""), strict=True)
        rows, lines = [], []
        try:
            absent = [column for column in columns if column not in (reader.fieldnames or ())]
            if absent:
                found = ", ".join(reader.fieldnames or ())[:200]
                raise DataError(f"{file} has no column {', '.join(absent)}; it has {found}", self.anew(file))
            for row in reader:
                if None in row:
                    raise DataError(f"{file}, line {reader.line_num}: more fields than columns", self.anew(file))
                rows.append({column: (row[column] or "").strip() for column in columns})
                lines.append(reader.line_num)
        except csv.Error as error:
            raise DataError(f"{file}, line {reader.line_num}: not CSV: {error}", self.anew(file)) from error
        if not rows:
            raise DataError(f"{file} has a header and no rows", self.anew(file))
        return rows, lines

    def require_unique(self, file: Path, names: Iterable[str], lines: Sequence[int]) -> None:
        """
        Raises:
            DataError: a name comes twice.
        """
        seen: dict[str, int] = {}
        for name, line in zip(names, lines, strict=True):
            if name in seen:
                raise DataError(f"{file}, lines {seen[name]} and {line}: {name} comes twice", self.anew(file))
            seen[name] = line

    def require_captions(self, file: Path, names: Sequence[str], captions: Collection[str], source: Path) -> None:
        """
        Raises:
            DataError: `source` has no caption of one of the names in `file`.
        """
        silent = [name for name in names if name not in captions]
        if silent:
            more = ", ..." if len(silent) > _SHOWN else ""
            raise DataError(
                f"{file}: {len(silent):,} of {len(names):,} videos have no caption in {source.name}, e.g. "
                f"{', '.join(silent[:_SHOWN])}{more}",
                f"use the {source.name} that belongs to this list: {self.anew(source)}",
            )


def read_bytes(file: Path, next_step: str) -> bytes:
    """The content of a file.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read()
    except OSError as error:
        raise unreadable(file, error) from error
    if not content:
        raise DataError(f"{file} is empty", next_step)
    return content


def unreadable(file: Path | str, error: OSError) -> DataError:
    """The error for a file or folder that the system does not let us read."""
    return DataError(
        f"{file} cannot be read: {error.strerror or error}",
        "look at its permissions, and at the disk or share it is on",
    )


def paragraph(sentences: Iterable[str]) -> str:
    """Sentences in one line, in their order, with one space between them; blank ones add nothing.

    Raises:
        TypeError: one of them is not a text.
    """
    return " ".join(filter(None, map(str.strip, sentences)))


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads(object_pairs_hook=...)``, which would keep the last of several values of a key without a word.

    Raises:
        ValueError: a key comes twice.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} comes twice")
    return value
