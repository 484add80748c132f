"""Runs -> one row a setting: means over seeds, their spread, and intervals over the test's queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.runs.columns import COST, is_metric
from centerclip_pl.statistics.intervals import CONFIDENCE, KS, RESAMPLES, Interval, check_options, query_intervals
from centerclip_pl.statistics.seeds import drop_repeated_seeds, over_seeds
from centerclip_pl.statistics.settings import (
    COUNTS,
    MEASURED_ON,
    describe_setting,
    setting_columns,
    setting_groups,
    varying_columns,
)

ReadRanks = Callable[[str], pd.DataFrame]


def summarise(
    runs: pd.DataFrame,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    read_ranks: ReadRanks | None = None,
) -> pd.DataFrame:
    """One row a setting: what it reached over its seeds, how sure that is, and what it cost.

    Args:
        runs: rows of ``centerclip_pl.runs.read_runs``, of one dataset, split and protocol.
        confidence: of the intervals, in (0, 1).
        resamples: of the test's videos, for the intervals.
        seed: of the resampling.
        read_ranks: from a value of the column ``run`` to its ranks; by default
            ``centerclip_pl.runs.read_run_ranks``. A `DataError` of it means: no interval.

    Returns:
        In the order in which settings first appear: the columns that make the setting; ``n_seeds``, ``seeds`` (list, in
        ascending order) and ``runs`` (list, in the same order); for each metric M: ``M`` (mean over the seeds),
        ``M std`` (n - 1 in the denominator; NaN with one seed), ``M low`` and ``M high`` (interval over videos of that
        mean, for the models as they were trained; NaN where ranks are absent); medians of the cost over the seeds;
        what the cost was measured on (several values joined by a comma); counts of videos and texts (the largest over
        the runs; of the test split's published size as well).
        ``.attrs["notes"]`` lists what was left out or could not be computed, and ``.attrs["confidence"]``.

    Raises:
        ConfigError: confidence or resamples that cannot work.
        DataError: runs of several datasets, splits or protocols; no runs.
    """
    from centerclip_pl.runs import one_protocol, read_run_ranks

    check_options(confidence, resamples)
    if not len(runs):
        raise DataError("there are no runs to summarise", "check the folder, and the filter if there is one")
    one_protocol(runs)
    read = read_run_ranks if read_ranks is None else read_ranks
    runs = runs.reset_index(drop=True)
    columns, telling, notes, rows = setting_columns(runs), varying_columns(runs), [], []
    for group in setting_groups(runs):
        kept, repeated = drop_repeated_seeds(group)
        kept = kept.sort_values("seed", kind="stable")
        intervals, absent = _intervals(kept, read, confidence, resamples, seed)
        name = describe_setting(kept.iloc[0], telling)
        notes += [f"{name}: {note}" if telling else note for note in [*repeated, *absent]]
        rows.append(_row(kept, columns, intervals, confidence))
    summary = pd.DataFrame(rows)
    summary.attrs |= {"notes": notes, "confidence": confidence}
    return summary


def _row(
    group: pd.DataFrame, columns: Sequence[str], intervals: dict[str, Interval], confidence: float
) -> dict[str, Any]:
    first = group.iloc[0]
    row: dict[str, Any] = {name: first[name] for name in columns}
    row |= {
        "n_seeds": len(group),
        "seeds": [None if pd.isna(each) else int(each) for each in group["seed"]],
        "runs": group["run"].tolist(),
    }
    for name in filter(is_metric, group.columns):
        values = group[name].dropna().astype(float)
        nothing = Interval(np.nan, np.nan, np.nan)
        # A metric that some of the runs lack is not the mean over the seeds that the row names.
        whole = len(values) == len(group)
        spread = over_seeds(values.tolist(), confidence) if whole else None
        interval = intervals.get(name, nothing) if whole else nothing
        # The order of the seeds must not decide between settings with equal means: sums differ by rounding.
        row[name] = np.nan if spread is None else round(spread.mean, 9)
        row[f"{name} std"] = np.nan if spread is None else spread.std
        row[f"{name} low"], row[f"{name} high"] = interval.low, interval.high
    row |= {name: group[name].astype(float).median() for name in COST if name in group.columns}
    for name in MEASURED_ON:
        if name in group.columns:
            row[name] = ", ".join(sorted({f"{each}" for each in group[name].dropna()})) or None
    row |= {name: group[name].astype(float).max() for name in COUNTS if name in group.columns}
    return row


def _intervals(
    group: pd.DataFrame, read: ReadRanks, confidence: float, resamples: int, seed: int
) -> tuple[dict[str, Interval], list[str]]:
    """Of the mean over the runs of a setting; without them, why."""
    names = [str(run) for run in group["run"]]
    try:
        frames = [read(name) for name in names]
        intervals = query_intervals(
            frames, ks=ks_of(group), confidence=confidence, resamples=resamples, seed=seed, names=names
        )
    except DataError as error:
        return {}, [f"no interval over queries: {error.problem}"]
    unlike = unlike_metrics(group, {name: interval.value for name, interval in intervals.items()})
    return ({}, [f"no interval over queries: {unlike}"]) if unlike else (intervals, [])


def ks_of(runs: pd.DataFrame) -> tuple[int, ...]:
    """The k of the columns R@k of both directions; 1, 5 and 10 where there is none."""
    found = {int(name[6:]) for name in runs.columns if name.startswith(("t2v/R@", "v2t/R@"))}
    return tuple(sorted(found)) or KS


def unlike_metrics(runs: pd.DataFrame, found: Mapping[str, float]) -> str | None:
    """What does not fit where the ranks are not those of ``results.json``; None where they are.

    Args:
        runs: of one setting.
        found: metrics of their ranks, the mean over the runs.
    """
    for name, value in found.items():
        if name in runs.columns:
            reported = runs[name].astype(float).mean()
            if not np.isnan(reported) and not np.isclose(reported, value, rtol=1e-4, atol=1e-3):
                return (
                    f"by its ranks {name} is {value:.3f}, by its results {reported:.3f}: ranks.parquet and "
                    f"results.json are not of one test ({', '.join(str(run) for run in runs['run'])})"
                )
    return None
