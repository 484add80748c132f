"""Which columns of a table of runs to show, in which words, and what a reader must be warned of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import pandas as pd

from centerclip_pl.errors import ConfigError
from centerclip_pl.runs.column_names import near_columns
from centerclip_pl.runs.columns import AFTER_METRICS, COST, SETTING, is_metric, is_recall, is_transductive

TRANSDUCTIVE = "(transductive)"
_SHOWN_METRICS = ("t2v/R@1", "t2v/R@5", "t2v/R@10", "t2v/MdR", "t2v/MnR", "v2t/R@1", "v2t/R@5", "v2t/R@10", "v2t/MnR")
_SHOWN_COST = (*COST, "memory_kind", "device", "dtype", "threads")
# Of no use beside figures; the marks say what matters of `selection` and the counts.
_BESIDE = ("dataset", "split", "protocol", "videos", "texts", "missing_videos", "broken_videos", "published_videos")
_OF_SUMMARIES = (" std", " low", " high")
_SPOKEN = {
    "after_block": "after block",
    "encode_ms": "ms a video",
    "clustering_ms": "ms clustering",
    "memory_mb": "memory MiB",
    "memory_kind": "memory of",
    "selected_on": "selected on",
    "n_seeds": "seeds",
}
_MARKS = {
    "†": "the checkpoint was chosen on the test split, as the published systems do: optimistic",
    "‡": "the weights as training left them, chosen by no validation",
    "§": "a part of the test only",
    "¶": "videos of the test are missing or broken, or there are fewer than published: easier than the whole test",
}


@dataclass(frozen=True)
class Listing:
    """A table as text.

    Args:
        title: dataset, split, protocol, and how many runs.
        constants: what all rows have in common, ``(name, value)``.
        columns: the names in the table of runs.
        headings: as shown.
        rows: of each run a text for each column.
        footnotes: what the marks in the rows mean.
    """

    title: str
    constants: list[tuple[str, str]]
    columns: list[str]
    headings: list[str]
    rows: list[list[str]]
    footnotes: list[str]


def listing(frame: pd.DataFrame, title: str, columns: Sequence[str] | None = None) -> Listing:
    """What to show of runs of one protocol.

    Args:
        frame: of `read_runs`, or of `centerclip_pl.statistics.summarise`, whose means are shown with their spread.
        title: what the runs have in common.
        columns: what to show; by default what matters, and constants are said once, above.
    """
    summary = "n_seeds" in frame.columns
    if columns is None:
        candidates = _candidates(frame)
        varied = [name for name in candidates if is_metric(name) or name in ("run", *COST) or _varies(frame[name])]
        constants = [
            (_SPOKEN.get(name, name), cell(frame[name].iloc[0], name))
            for name in candidates
            if name not in varied and not _is_missing(frame[name].iloc[0])
        ]
    else:
        varied, constants = list(columns), []
    texts: dict[str, list[str]] = {name: [cell(value, name) for value in frame[name]] for name in varied}
    for name in varied:
        if summary and f"{name} std" in frame.columns:
            spread = frame[f"{name} std"]
            texts[name] = [
                text if _is_missing(std) else f"{text} ± {cell(std, name)}"
                for text, std in zip(texts[name], spread, strict=True)
            ]
    if "run" in texts and columns is None:
        texts["run"], common = _short_names(texts["run"])
        constants = [*([("below", common)] if common else []), *constants]
    marks = [_marks(row) for _, row in frame.iterrows()]
    rows = [list(cells) for cells in zip(*texts.values(), strict=True)] if varied else []
    for row, mark in zip(rows, marks, strict=True):
        row[0] = f"{row[0]} {mark}".strip()
    used = [f"{mark} {meaning}" for mark, meaning in _MARKS.items() if any(mark in each for each in marks)]
    if any(is_transductive(name) for name in varied):
        used.append(f"{TRANSDUCTIVE} figures depend on other queries of the test or on a bank of queries")
    if summary and (frame["n_seeds"] == 1).any():
        used.append("one seed: no spread over seeds is known")
    return Listing(title, constants, varied, [heading(name) for name in varied], rows, used)


def heading(column: str) -> str:
    """A column's name as shown."""
    return f"{column} {TRANSDUCTIVE}" if is_transductive(_metric(column)) else _SPOKEN.get(column, column)


def check_columns(names: Sequence[str], frame: pd.DataFrame, option: str) -> None:
    """Refuses names of columns that are not there.

    Raises:
        ConfigError: with a near name.
    """
    for name in names:
        if name not in frame.columns:
            raise ConfigError(f"{option}: there is no column {name!r}", near_columns(name, frame.columns))


def sort_runs(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The rows sorted: recalls from the highest, all else from the lowest; ``-`` before a name turns it round.

    Rows without a value come last.

    Raises:
        ConfigError: there is no such column.
    """
    names = [key if key in frame.columns else key.removeprefix("-") for key in keys]
    check_columns(names, frame, "--sort")
    # One stable pass for each key, the last first: pandas puts missing values at one end for all keys alike.
    for key, name in reversed(list(zip(keys, names, strict=True))):
        column = frame[name]
        if column.map(lambda value: isinstance(value, list)).any():
            column = column.map(str)
        if column.dtype == object and column.map(lambda value: isinstance(value, str)).any():
            column = column.map(lambda value: None if _is_missing(value) else str(value))
        order = column.sort_values(ascending=is_recall(_metric(name)) == (key != name), kind="stable").index
        frame = frame.loc[order]
    return frame


def cell(value: Any, column: str) -> str:
    """A value as shown: recalls and ranks with one decimal, cost as finely as it can be measured."""
    if isinstance(value, list):
        return ", ".join(cell(each, column) for each in value)
    if _is_missing(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if is_metric(_metric(column)):
        return f"{value:.1f}"
    digits = {"gmacs": 2, "encode_ms": 1, "clustering_ms": 1, "memory_mb": 0, "duration_s": 0}.get(column)
    return f"{value:g}" if digits is None else f"{value:,.{digits}f}"


def _metric(column: str) -> str:
    for suffix in _OF_SUMMARIES:
        column = column.removesuffix(suffix)
    return column


def _candidates(frame: pd.DataFrame) -> list[str]:
    """Setting, further options, seeds, metrics, cost; of a summary its seeds in place of the runs' names."""
    other = [name for name in frame.columns if not is_metric(_metric(name))]
    fixed = {"run", *SETTING, *AFTER_METRICS, "n_seeds", "seeds", "runs"}
    options = [name for name in other if name not in fixed]
    setting = [name for name in SETTING if name not in ("seed", *_BESIDE)]
    extra = [name for name in frame.columns if is_metric(name) and (is_transductive(name) or "_order/" in name)]
    metrics = [*_SHOWN_METRICS, *(name for name in extra if name.endswith("/R@1"))]
    chosen = ["run", *setting, *options, "seed", "n_seeds", *metrics, *_SHOWN_COST]
    present = [name for name in chosen if name in frame.columns]
    return [name for name in present if not is_metric(name) or frame[name].notna().any()]


def _varies(column: pd.Series[Any]) -> bool:
    return len({None if _is_missing(value) else str(value) for value in column}) > 1


def _marks(row: pd.Series[Any]) -> str:
    found = {
        "†": row.get("selected_on") == "test",
        "‡": row.get("selection") == "last",
        "§": str(row.get("protocol")).endswith("(partial)"),
        "¶": _count(row, "missing_videos") + _count(row, "broken_videos") > 0
        or _count(row, "videos") < _count(row, "published_videos"),
    }
    return "".join(mark for mark, holds in found.items() if holds)


def _count(row: pd.Series[Any], name: str) -> float:
    value: Any = row.get(name)
    return 0.0 if _is_missing(value) else float(value)


def _short_names(names: Sequence[str]) -> tuple[list[str], str]:
    """The names below what they have in common, and that."""
    if len(names) < 2:
        return list(names), ""
    split = [name.split("/") for name in names]
    folders = zip(*(parts[:-1] for parts in split), strict=False)
    common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, folders)]
    return ["/".join(parts[len(common) :]) for parts in split], "/".join(common)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
