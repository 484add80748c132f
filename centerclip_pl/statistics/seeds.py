"""The spread over seeds: what training again would have given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from centerclip_pl.runs.columns import is_metric
from centerclip_pl.statistics.intervals import CONFIDENCE


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds of one setting."""

    n: int
    mean: float
    std: float
    """With n - 1 in the denominator; NaN with one seed."""
    low: float
    """Of the t interval of the mean; NaN with one seed: a single training says nothing about others."""
    high: float

    def __str__(self) -> str:
        """``74.2 ± 1.3 (3 seeds)``, or ``74.2 (one seed)``."""
        return f"{self.mean:.1f} (one seed)" if self.n == 1 else f"{self.mean:.1f} ± {self.std:.1f} ({self.n} seeds)"


def over_seeds(values: Sequence[float], confidence: float = CONFIDENCE) -> Spread:
    """Mean, standard deviation and t interval of the mean of a metric over seeds.

    The interval (Student, 1908) answers what the mean of further trainings would be, on the same test videos. It takes
    the figures of seeds for normally distributed, and with 2 or 3 seeds it is wide, as it must be.

    Args:
        values: one of each seed, at least one.
        confidence: in (0, 1).
    """
    figures = np.asarray(values, dtype=np.float64)
    n, mean = len(figures), float(figures.mean())
    if n == 1:
        return Spread(1, mean, math.nan, math.nan, math.nan)
    std = float(figures.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return Spread(n, mean, std, mean - half, mean + half)


def drop_repeated_seeds(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keeps one run of each seed of ONE setting: two runs of a seed are not two independent trainings.

    The newest by ``created`` stays; of equal times, the last row. Runs without a seed were started from different
    random states and all count, unless all their metrics are equal.

    Args:
        runs: rows of ``centerclip_pl.runs.read_runs`` of one setting.

    Returns:
        The rows that stay, in their order, and a sentence about each seed that had more than one run.
    """
    metrics = runs[[name for name in runs.columns if is_metric(name)]]
    twins = metrics.apply(lambda row: repr(row.to_list()), axis=1) if len(metrics.columns) else runs["run"].astype(str)
    seeds = runs["seed"].map(lambda seed: "" if pd.isna(seed) else f"{seed:g}")
    key = seeds.where(seeds != "", "without a seed, figures " + twins)
    order = runs.sort_values("created", kind="stable").index if "created" in runs.columns else runs.index
    newest = key.loc[order].drop_duplicates(keep="last").index
    notes = []
    for name, members in key.groupby(key, sort=True):
        if len(members) > 1:
            kept = next(index for index in members.index if index in newest)
            what = f"seed {name}" if not str(name).startswith("without") else "equal runs without a seed"
            others = ", ".join(str(runs.loc[index, "run"]) for index in members.index if index != kept)
            notes.append(
                f"{what}: {len(members)} runs of one setting; the newest counts ({runs.loc[kept, 'run']}), "
                f"left out: {others}"
            )
    return runs.loc[[index for index in runs.index if index in newest]], notes
