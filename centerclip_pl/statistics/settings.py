"""Which columns of a table of runs make a setting, and which are findings or bookkeeping."""

from __future__ import annotations

from typing import Any

import pandas as pd

from centerclip_pl.runs.columns import AFTER_METRICS, SETTING, is_metric

MEASURED_ON = ("memory_kind", "device", "dtype", "threads")
COUNTS = ("videos", "texts", "missing_videos", "broken_videos", "published_videos")
_OF_A_RUN = ("run", "seed")


def setting_columns(runs: pd.DataFrame) -> list[str]:
    """The columns in which two runs of one setting agree: the fixed ones, then the varied options in their order."""
    fixed = [name for name in SETTING if name in runs.columns and name not in _OF_A_RUN]
    other = {*SETTING, *AFTER_METRICS, *_OF_A_RUN}
    return [*fixed, *(name for name in runs.columns if name not in other and not is_metric(name))]


def setting_groups(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each setting, settings in the order in which they appear."""
    columns = setting_columns(runs)
    if not columns or not len(runs):
        return [runs] if len(runs) else []
    keys = runs[columns].map(_key).agg(tuple, axis=1)
    return [runs.loc[members.index] for _, members in keys.groupby(keys, sort=False)]


def describe_setting(row: pd.Series, columns: list[str]) -> str:
    """``method=kmedoids, segments=4, seed=0``: those of the columns that have a value."""
    said = [f"{name}={_plain(row[name])}" for name in columns if _key(row[name]) is not None]
    return ", ".join(said) or "all options at their defaults"


def _key(value: Any) -> Any:
    """Equal for equal values of any type: options may be lists, absent values are None, NaN or NA."""
    if isinstance(value, (list, dict, tuple, set)):
        return repr(value)
    if pd.isna(value):
        return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def varying_columns(runs: pd.DataFrame) -> list[str]:
    """The columns of the setting in which the runs differ."""
    return [name for name in setting_columns(runs) if runs[name].map(_key).nunique(dropna=False) > 1]
