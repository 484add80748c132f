"""A dataset of your own: a folder of videos and one file of captions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import pandas as pd

from centerclip_pl.data.annotations import unique_keys, unreadable
from centerclip_pl.data.captions import caption_table, hold_out
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.options import require_one_of
from centerclip_pl.data.splits import SPLITS
from centerclip_pl.errors import ConfigError, DataError

_COLUMNS = "video and caption (and, if wanted, split, start, end, video_id, tag)"
_TEXTS = ("video", "caption", "split", "video_id", "tag")
_TIMES = ("start", "end")


class Custom(RetrievalDataModule):
    """Videos of your own, described by one CSV, TSV or JSONL file.

    A row (a line with a JSON object) is one caption: ``video`` (a file), ``caption``, and optionally ``split``
    (``train``, ``val`` or ``test``), ``start`` and ``end`` (seconds, where the caption is about a part of the file),
    ``video_id`` (default: ``video``, with the time span if there is one), ``tag`` (a group of queries to be measured on
    its own). Several rows of one video are several captions of it. Further columns are kept and not used.

    Where no row names a split, a tenth of the videos is held out for the test and another for validation, by a hash of
    their ids: the same ones on every machine and in every run (see :func:`~centerclip_pl.data.captions.hold_out`).

    File names are relative to the folder of the caption file, or else to ``root``.

    Args:
        captions: the file.
        root: the folder of the videos; None: the folder of the caption file. The results of the check of the videos are
            kept here.
        split: the split of rows that name none.
        val_videos: training videos to hold out for validation, a number or a share, where the file has no ``val``
            rows; 0: none, so that a training is not validated.
        test_videos: training videos to hold out for the test before that, a number or a share, where no row names a
            split; 0: none, so that there is nothing to test on.
        **kwargs: see :class:`~centerclip_pl.data.datamodule.RetrievalDataModule`.
    """

    name = "custom"

    def __init__(
        self,
        captions: str = "",
        root: str | None = None,
        split: Literal["train", "val", "test"] = "train",
        val_videos: int | float = 0.1,
        test_videos: int | float = 0.1,
        **kwargs: Any,
    ) -> None:
        if not captions:
            raise ConfigError("no caption file was given", "name a CSV or JSONL file: --data.captions=my.csv")
        super().__init__(root=str(Path(captions).parent) if root is None else root, val_videos=val_videos, **kwargs)
        require_one_of(SPLITS, split=split)
        self.captions_file = Path(captions)
        self.default_split = split
        self.test_videos = test_videos
        self._test_is_held_out = False

    @property
    def next_step(self) -> str:
        return (
            f"{self.captions_file} names files relative to its own folder or to {self.root}: put them there, correct "
            "the names, or say where they are: --data.root=FOLDER"
        )

    def without_split(self, split: str) -> str:
        step = f"mark some videos with {split} in a column split of {self.captions_file}"
        if split == "val":
            return f"{step}; or {super().without_split(split)}"
        return f"{step}, or train with `fit`, which does not test" if split == "test" else step

    def protocol(self, split: str) -> str:
        """``"custom:<name of the caption file>:<split>"``; comparable with runs on the same file only.

        Of test videos that were held out, the name says so and how many: ``"custom:my.csv:test:held-out-0.1"``.

        Raises:
            DataError: the caption file cannot be read.
        """
        self._splits.names()
        held_out = f":held-out-{self.test_videos}" if split == "test" and self._test_is_held_out else ""
        return f"custom:{self.captions_file.name}:{split}{held_out}"

    def tables(self) -> dict[str, pd.DataFrame]:
        rows = [{**row, "line": line} for line, row in self._rows()]
        table = pd.DataFrame(rows)
        if not rows:
            raise DataError(f"{self.captions_file} has no captions", "every row needs a video and a caption")
        self._require_columns([name for name in table.columns if name != "line"])
        text = table.astype(object).where(table.notna(), "").map(str).map(str.strip)
        table["video"] = text["video"]
        named = "split" in table and bool((text["split"] != "").any())
        table["split"] = text["split"].replace("", self.default_split) if named else self.default_split
        unknown = table[~table["split"].isin(SPLITS)]
        if len(unknown):
            first = unknown.iloc[0]
            raise DataError(
                f"{self.captions_file}, line {first['line']}: unknown split {first['split']!r}",
                f"use one of {', '.join(SPLITS)}",
            )
        ids = text["video"] + _span(text)
        table["video_id"] = text["video_id"].where(text["video_id"] != "", ids) if "video_id" in table else ids
        paths = {video: self._resolve(video) for video in dict.fromkeys(table["video"])}
        table["path"] = table["video"].map(paths)
        tables = {}
        for split in SPLITS:
            part = table[table["split"] == split]
            if len(part):
                lines = part["line"].tolist()
                tables[split] = caption_table(part.drop(columns=["line", "video"]), self.captions_file, lines=lines)
        self._test_is_held_out = not named and self.default_split == "train" and self.test_videos != 0
        if self._test_is_held_out:
            tables["train"], tables["test"] = hold_out(tables["train"], self.test_videos, "test_videos")
        return tables

    def _resolve(self, video: str) -> str:
        if not video:
            return ""  # caption_table names the line
        beside, below = self.captions_file.parent / video, self.root / video  # an absolute name stays as it is
        return str(below if below != beside and _exists(below) and not _exists(beside) else beside)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with its line number."""
        file, suffix = self.captions_file, self.captions_file.suffix.lower()
        if suffix not in (".csv", ".tsv", ".jsonl"):
            raise DataError(
                f"{file}: the format is told by the ending, and this one is unknown", "use .csv, .tsv or .jsonl"
            )
        try:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                yield from self._json_rows(stream) if suffix == ".jsonl" else self._csv_rows(stream, suffix)
        except FileNotFoundError:
            raise DataError(f"{file} does not exist", "name the caption file: --data.captions=FILE.csv") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 text: {error}", "save it as UTF-8 text") from error
        except OSError as error:
            raise unreadable(file, error) from error

    def _csv_rows(self, stream: Any, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:
        file = self.captions_file
        reader = csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
        try:
            if reader.fieldnames is None:
                return
            reader.fieldnames = [name.strip() for name in reader.fieldnames]
            self._require_columns(reader.fieldnames)
            twice = [name for name in (*_TEXTS, *_TIMES) if reader.fieldnames.count(name) > 1]
            if twice:
                raise DataError(f"{file} has two columns {twice[0]!r}", "delete or rename one of them")
            for row in reader:
                if None in row:
                    raise DataError(
                        f"{file}, line {reader.line_num}: more fields than columns",
                        'put captions that hold the delimiter into quotes: "a dog, a cat"',
                    )
                yield reader.line_num, row
        except csv.Error as error:
            raise DataError(
                f"{file}, line {reader.line_num}: not CSV: {error}",
                'a text within quotes must end with one; quotes inside of it are written twice: "a ""big"" dog"',
            ) from error

    def _json_rows(self, stream: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            where = f"{self.captions_file}, line {number}"
            try:
                row = json.loads(line, object_pairs_hook=unique_keys, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: not JSON: {error}", "correct the line; each line is one object") from error
            if not isinstance(row, dict):
                raise DataError(f"{where}: not a JSON object", 'e.g. {"video": ..., "caption": ...}')
            # Numbers are spelled here: in a table their spelling depends on the other rows.
            texts = {name: _spelled(row[name], where, name) for name in _TEXTS if row.get(name) is not None}
            for name in _TIMES:
                if isinstance(row.get(name), bool | list | dict):
                    raise DataError(f"{where}: {name} is not a number", "give seconds, or leave it out")
            yield number, {**row, **texts}

    def _require_columns(self, names: Sequence[str]) -> None:
        for column in ("video", "caption"):
            if column not in names:
                found = ", ".join(map(str, names))[:200]
                step = f"name the columns {_COLUMNS}; between them are commas in .csv, tabs in .tsv"
                if len(names) == 1 and ";" in found:
                    step = f"the columns must not be parted by semicolons, as here: {step}"
                raise DataError(f"{self.captions_file} has no column {column!r}; it has {found}", step)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # e.g. a name that is too long; the check of the videos says so
        return False


def _spelled(value: Any, where: str, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        if isinstance(value, str) and value.encode() is not None:
            return value
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {name} is not a text: {error}", "correct the line") from error
    raise DataError(
        f"{where}: {name} is not a text but {json.dumps(value)[:60]}",
        f"put {name} into quotes; one line is one caption",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _span(text: pd.DataFrame) -> pd.Series:
    """``@start-end`` for rows with a time span, else nothing; 1 and 1.0 are the same time."""
    absent = pd.Series("", index=text.index)
    start, end = (_seconds(text.get(name, absent)) for name in _TIMES)
    return ("@" + start + "-" + end).where((start != "") | (end != ""), "")


def _seconds(text: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(text, errors="coerce")
    return numbers.map(lambda number: f"{number:.12g}").where(numbers.notna(), text)
