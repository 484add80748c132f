"""What figures ask of their tables, and what they say about them in small print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.naming import PLACES, setting_columns, setting_names, shown
from centerclip_pl.runs.columns import is_metric, is_transductive

SWEEPS = {
    "segments": "make sweep SWEEP=segments",
    "clusters": "make sweep SWEEP=segments",
    "after_block": "make sweep SWEEP=block",
    "method": "make sweep SWEEP=method",
    "seed": "make sweep SWEEP=seeds",
}
"""The command whose runs vary a column."""


def require(summary: pd.DataFrame, columns: Iterable[str], figure: str) -> None:
    """Looks whether a table can be drawn.

    Args:
        summary: one row a setting (or a run).
        columns: that have to be there.
        figure: what is drawn, in words, for the message.

    Raises:
        DataError: it has no rows, lacks a column, or mixes datasets, splits or protocols.
    """
    missing = [name for name in columns if name not in summary.columns]
    if missing:
        raise DataError(
            f"{figure} needs the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}, which these runs lack",
            f"they have {', '.join(map(str, summary.columns))}" if len(summary.columns) else "read some runs first",
        )
    if summary.empty:
        raise DataError(f"{figure} needs at least one run, and there is none", "train first: make train, or make sweep")
    for place in PLACES:
        if place in summary.columns and len(found := sorted({shown(value) for value in summary[place]})) > 1:
            raise DataError(
                f"{figure} would mix runs of different {place}s: {', '.join(found)}",
                "figures of different tests cannot be compared: draw each alone, "
                "centerclip_pl.runs.split_protocols(runs) separates them",
            )


def require_several(summary: pd.DataFrame, column: str, figure: str) -> None:
    """
    Raises:
        DataError: the column has fewer than two values; the message names the sweep that brings more.
    """
    values = sorted(summary[column].dropna().unique())
    if len(values) < 2:
        only = f"all have {shown(values[0])}" if values else "none has one"
        raise DataError(
            f"{figure} needs runs with different {column}, {only}",
            f"make them with: {SWEEPS.get(column, f'centerclip train with another {column}')}",
        )


def has_values(summary: pd.DataFrame, column: str) -> bool:
    """Whether a column is there and has a finite number."""
    return column in summary.columns and bool(np.isfinite(numbers(summary, column)).any())


def numbers(summary: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float64, NaN where it is absent or has no value."""
    if column not in summary.columns:
        return np.full(len(summary), np.nan)
    return pd.to_numeric(summary[column], errors="coerce").to_numpy(dtype="float64", na_value=np.nan)


def interval(summary: pd.DataFrame, value: str) -> np.ndarray:
    """How far the interval reaches below and above each value, shape [2, rows]; NaN where none was computed."""
    middle = numbers(summary, value)
    low, high = numbers(summary, f"{value} low"), numbers(summary, f"{value} high")
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(middle)
    # A percentile interval need not contain the mean; matplotlib wants lengths.
    reach = np.stack([np.maximum(middle - low, 0.0), np.maximum(high - middle, 0.0)])
    return np.where(known, reach, np.nan)


def seed_counts(summary: pd.DataFrame) -> np.ndarray:
    """Seeds of each row; without the column ``n_seeds`` a row is one run."""
    return numbers(summary, "n_seeds") if "n_seeds" in summary.columns else np.ones(len(summary))


def small_print(summary: pd.DataFrame, value: str, *, bars: str = "", more: str = "") -> str:
    """What a figure rests on: dataset, protocol, queries, seeds, and what its bars are.

    Args:
        summary: what is drawn.
        value: the metric.
        bars: what error bars show; left out where no row has an interval.
        more: further words.
    """
    parts = []
    dataset, split, protocol = (_only(summary, place) for place in PLACES)
    if dataset:
        parts.append(f"{dataset}{f' {split}' if split else ''}{f', protocol {protocol}' if protocol else ''}")
    # Texts ask in text to video, videos in the other direction.
    queries = _range(numbers(summary, "videos" if "v2t" in value else "texts"))
    if queries:
        parts.append(f"{queries} queries")
    parts.append(seeds_in_words(summary))
    if bars and np.isfinite(interval(summary, value)).any():
        parts.append(bars)
    if is_transductive(value):
        parts.append("transductive: uses more than the query and the video alone")
    if more:
        parts.append(more)
    return "; ".join(parts) + "."


def over_queries(summary: pd.DataFrame) -> str:
    """What the columns ``low`` and ``high`` of :func:`centerclip_pl.statistics.summarise` are, in words."""
    confidence = summary.attrs.get("confidence")
    share = f"{100 * confidence:g}\N{NO-BREAK SPACE}% " if isinstance(confidence, float) else "confidence "
    return f"{share}interval over queries"


def seeds_in_words(summary: pd.DataFrame) -> str:
    """``one seed``, ``3 seeds a setting``, ``1 to 3 seeds a setting``."""
    counts = seed_counts(summary)
    if np.nanmax(counts, initial=1) <= 1:
        return "one seed"
    return f"{_range(counts)} seeds a setting"


def _only(summary: pd.DataFrame, column: str) -> str:
    return shown(summary[column].iloc[0]) if column in summary.columns else ""


def _range(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def groups(summary: pd.DataFrame, by: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Splits a table into parts in which nothing but ``by`` varies, e.g. a heat map each.

    Args:
        summary: one row a setting.
        by: the columns that may vary within a part.

    Returns:
        Name and rows of each part: the largest first, then in the order of the table. The name says in what the parts
        differ; it is empty where there is one part of one kind.
    """
    fixed = [name for name in setting_columns(summary) if name not in by]
    keys = [tuple(shown(value) for value in row) for row in summary[fixed].itertuples(index=False, name=None)]
    order = list(dict.fromkeys(keys))
    parts = [summary[[key == wanted for key in keys]] for wanted in order]
    if len(parts) > 1:
        names = setting_names(pd.concat([part.head(1) for part in parts]), without=tuple(by))
    else:
        names = [""] * len(parts)
    return sorted(zip(names, parts, strict=True), key=lambda part: -len(part[1]))


def format_value(column: str, value: float) -> str:
    """A number as tables of this field print it: recalls and ranks with one decimal, costs with three digits."""
    if is_metric(column):
        return f"{value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
