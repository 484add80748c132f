"""What two settings cost, as far as the figures can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

_ROWS = (
    ("gmacs", "GMACs a video", ()),
    ("encode_ms", "ms a video, encoding", ("device", "dtype", "threads")),
    ("clustering_ms", "ms a video, clustering in it", ("device", "dtype", "threads")),
    ("memory_mb", "MiB, peak memory", ("memory_kind", "device", "dtype")),
)


@dataclass(frozen=True)
class CostComparison:
    """One figure of cost: medians over the runs of A and of B."""

    name: str
    """The column: ``gmacs``, ``encode_ms``, ``clustering_ms``, ``memory_mb``."""
    unit: str
    a: float
    b: float
    ratio: float | None
    """B by A; None where they were not measured alike, or A is 0."""
    reason: str | None
    """Why they cannot be compared; None where they can."""


def compare_costs(a: pd.DataFrame, b: pd.DataFrame) -> list[CostComparison]:
    """The costs that both have.

    Multiplications are counted, and compare anywhere. Times compare on one device with one dtype and number of threads,
    memory where the same thing was measured.

    Args:
        a: rows of ``centerclip_pl.runs.read_runs``.
        b: the same.
    """
    found = []
    for name, unit, conditions in _ROWS:
        if name not in a.columns or name not in b.columns:
            continue
        ours, theirs = float(a[name].astype(float).median()), float(b[name].astype(float).median())
        if math.isnan(ours) or math.isnan(theirs):
            continue
        reason = next((said for said in (_unlike(a, b, each) for each in conditions) if said), None)
        ratio = theirs / ours if reason is None and ours else None
        found.append(CostComparison(name, unit, ours, theirs, ratio, reason))
    return found


def _unlike(a: pd.DataFrame, b: pd.DataFrame, column: str) -> str | None:
    if column not in a.columns or column not in b.columns:
        return None
    values = [_said(runs, column) for runs in (a, b)]
    if values[0] == values[1] and len(values[0]) == 1:
        return None
    said = [" and ".join(each) or "not recorded" for each in values]
    return f"other {'kind of memory' if column == 'memory_kind' else column}: {said[0]} / {said[1]}"


def _said(runs: pd.DataFrame, column: str) -> list[str]:
    return sorted({f"{each:g}" if isinstance(each, float) else str(each) for each in runs[column].dropna()})
