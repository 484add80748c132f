"""What metrics, costs and settings are called in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from centerclip_pl.runs.columns import AFTER_METRICS, SETTING, is_metric, is_recall

_DIRECTIONS = {"t2v": "text to video", "v2t": "video to text"}
_POSTPROCESSED = {"dual_softmax": "dual softmax", "qb_norm": "QB-Norm"}
_RANKS = {"MdR": "median rank", "MnR": "mean rank"}
COSTS = {
    "gmacs": "GMACs a video",
    "encode_ms": "encoding time (ms a video)",
    "clustering_ms": "clustering time (ms a video)",
    "memory_mb": "peak memory (MiB)",
    "ms_per_video": "time (ms a video)",
    "memory_gb": "training memory (GB)",
}
"""Columns of costs, with their units: less is better."""

PLACES = ("dataset", "split", "protocol")
"""What has to be the same in one figure."""
_NO_SETTING = {*PLACES, *AFTER_METRICS, "run", "runs", "seed", "seeds", "n_seeds"}
_OF_METRICS = (" std", " low", " high")
_SHORT = {"after_block": "block", "selected_on": "selected on", "selection": "weights"}


def is_cost(column: str) -> bool:
    """Whether a column is a cost."""
    return column in COSTS


def more_is_better(column: str) -> bool:
    """True for recalls, False for ranks and costs."""
    return is_recall(column)


def short_title(column: str) -> str:
    """A metric without its direction, ``"R@1 (%)"``, or a cost with its unit."""
    if is_cost(column):
        return COSTS[column]
    kind = column.rsplit("/", 1)[-1]
    return _RANKS.get(kind, f"{kind} (%)" if "@" in kind else kind)


def title(column: str) -> str:
    """A metric or a cost in words with its unit: ``"text to video R@1 (%)"``."""
    if is_cost(column) or "/" not in column:
        return short_title(column)
    *before, _ = column.split("/")
    after = ""
    if before and before[0] in _POSTPROCESSED:
        after = f", {_POSTPROCESSED[before.pop(0)]} (transductive)"
    way = before[-1] if before else ""
    direction, _, part = way.partition("_")
    words = _DIRECTIONS.get(direction, direction) + (f" [{part}]" if part else "")
    return f"{words} {short_title(column)}{after}".strip()


def in_short(column: str) -> str:
    """A metric in words without its unit, ``"text to video R@1"``: for sentences, and beside axes that say the unit."""
    return title(column).replace(" (%)", "")


def as_heading(text: str) -> str:
    """With a capital letter in front."""
    return text[:1].upper() + text[1:]


def is_given(value: Any) -> bool:
    """Whether a cell of a table has a value."""
    return value is not None and not (isinstance(value, float) and math.isnan(value)) and value is not pd.NA


def shown(value: Any) -> str:
    """An option's value: whole numbers without a point, absent ones as ``none``."""
    if not is_given(value):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def setting_columns(summary: pd.DataFrame) -> list[str]:
    """The columns that say which setting a row is, those of every run first."""
    known = [name for name in SETTING if name in summary.columns and name not in _NO_SETTING]
    others = [name for name in summary.columns if name not in (*SETTING, *_NO_SETTING) and not _is_found(name)]
    return known + others


def _is_found(column: str) -> bool:
    """Whether a column is a metric, or its spread or interval."""
    for ending in _OF_METRICS:
        column = column.removesuffix(ending)
    return is_metric(column)


def varying(summary: pd.DataFrame) -> list[str]:
    """The columns of :func:`setting_columns` that have more than one value in this table; absent counts as one."""
    return [name for name in setting_columns(summary) if len({shown(value) for value in summary[name]}) > 1]


def setting_names(summary: pd.DataFrame, *, without: Sequence[str] = ()) -> list[str]:
    """A short name for each row, made of what varies: ``"kmedoids 4×48"``, ``"pooling, 4 segments"``, ``"baseline"``.

    Args:
        summary: one row a setting.
        without: columns to leave out, because the figure shows them in another way.
    """
    columns = [name for name in varying(summary) if name not in without]
    if not columns and "method" in summary.columns and "method" not in without:
        columns = ["method"]
    return [_name(row, columns) for _, row in summary.iterrows()]


def common_options(summary: pd.DataFrame) -> dict[str, Any]:
    """What most rows that have such an option agree in, of those that vary: small print may say it once for all.

    Method, segments and clusters are not among them, names always say these.
    """
    found = {}
    for name in varying(summary):
        if name in ("method", "segments", "clusters"):
            continue
        values = [value for value in summary[name] if is_given(value)]
        counts = pd.Series([shown(value) for value in values]).value_counts()
        if counts.iloc[0] > len(values) / 2:
            found[name] = next(value for value in values if shown(value) == counts.index[0])
    return found


def option_in_words(name: str, value: Any) -> str:
    """``"block 2"``, ``"vit-b32"``, ``"learning_rate 0.001"``."""
    text = shown(value)
    return text if name in ("backbone", "head") else f"{_SHORT.get(name, name.rsplit('.', 1)[-1])} {text}"


def _name(row: pd.Series, columns: list[str]) -> str:
    method = shown(row["method"]) if "method" in columns else ""
    segments, clusters = row.get("segments"), row.get("clusters")
    size, rest = "", []
    if {"segments", "clusters"} & set(columns) and is_given(segments):
        size = f"{shown(segments)}×{shown(clusters)}" if is_given(clusters) else ""
        rest = [] if size else [f"{shown(segments)} segments"]
    rest += [
        option_in_words(name, row[name])
        for name in columns
        if name not in ("method", "segments", "clusters") and not (name == "after_block" and not is_given(row[name]))
    ]
    return ", ".join(part for part in (f"{method} {size}".strip(), *rest) if part)


def named_with_common(summary: pd.DataFrame, *, without: Sequence[str] = ()) -> tuple[list[str], str]:
    """:func:`setting_names` without what most rows have in common, and that in words (empty: nothing).

    Names say an option where a row differs from the others.
    """
    common = common_options(summary)
    names = []
    columns = [name for name in varying(summary) if name not in without]
    for _, row in summary.iterrows():
        own = [name for name in columns if name not in common or shown(row[name]) != shown(common[name])]
        names.append(_name(row, own))
    return names, ", ".join(option_in_words(name, value) for name, value in common.items())
