"""What was read: runs, code, hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from centerclip_pl.plots.naming import is_given, shown
from centerclip_pl.report.tables import selection_words, short_commit
from centerclip_pl.report.wording import counted, listed


def facts_of(runs: pd.DataFrame, summary: pd.DataFrame) -> list[tuple[str, str]]:
    """Label and value of what the runs of one protocol have in common, or which values they have.

    Args:
        runs: rows of ``read_runs``.
        summary: of them.
    """
    texts, videos = (_numbers(runs[name]) for name in ("texts", "videos"))
    published = runs["published_videos"].dropna()
    of = f" of {int(published.max()):,} published" if len(published) else ""
    found = [
        ("Dataset", _values(runs["dataset"])),
        ("Split", _values(runs["split"])),
        ("Protocol", _values(runs["protocol"])),
        ("Queries", f"{texts} texts, {videos} videos{of}"),
        ("Runs", f"{counted(len(runs), 'run')} of {counted(len(summary), 'setting')}"),
        ("Seeds", _values(runs["seed"].dropna()) or "not recorded"),
        ("Backbone", _values(runs["backbone"])),
        ("Similarity head", _values(runs["head"])),
        ("Checkpoint", listed(sorted({selection_words(run) for _, run in runs.iterrows()}))),
        ("Measured on", _hardware(runs)),
        ("Commit", _values(runs["commit"].dropna().map(short_commit))),
        ("Tested", _dates(runs["created"])),
    ]
    return [(label, value) for label, value in found if value]


def versions_in_words(versions: Sequence[dict[str, str]]) -> str:
    """``centerclip-pl 0.3.0, torch 2.13.0``: the packages that figures may depend on, with all versions met."""
    names = dict.fromkeys(name for each in versions for name in each)
    parts = []
    for name in sorted(names, key=lambda name: (name != "centerclip-pl", name != "torch")):
        met = sorted({each[name] for each in versions if name in each})
        parts.append(f"{name} {' and '.join(met)}")
    return ", ".join(parts)


def _hardware(runs: pd.DataFrame) -> str:
    columns = [name for name in ("device", "dtype", "threads") if name in runs.columns]
    kinds = []
    for row in runs[columns].itertuples(index=False, name=None):
        words = [_with_unit(name, value) for name, value in zip(columns, row, strict=True) if is_given(value)]
        if words:
            kinds.append(", ".join(words))
    return "; ".join(dict.fromkeys(kinds))


def _with_unit(name: str, value: Any) -> str:
    return counted(int(value), "thread") if name == "threads" else shown(value)


def _values(column: pd.Series) -> str:
    values = sorted({value for value in column if is_given(value)}, key=lambda value: (str(type(value)), value))
    return listed([shown(value) for value in values], most=8)


def _numbers(column: pd.Series) -> str:
    values = column.dropna()
    if not len(values):
        return "?"
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _dates(column: pd.Series) -> str:
    days = sorted({str(value)[:10] for value in column.dropna()})
    return "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
