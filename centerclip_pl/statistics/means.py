"""How sure a mean over videos is, and the mean of a difference between two ways of doing the same videos.

The intervals are percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
13.3) with the video as the unit: they say how far the mean would move with other videos of the same kind.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from centerclip_pl.errors import DataError
from centerclip_pl.statistics.intervals import check_options

_BLOCK = 1 << 23  # numbers in a block of resamples: 64 MiB


def mean_intervals(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means over videos with their intervals.

    Args:
        values: ``[V, ...]``, one row a video.
        confidence: of each interval by itself.
        resamples: of the videos, the same ones for all columns.
        seed: of the resamples.

    Returns:
        Mean, low and high end, float64 ``[...]`` each. The ends are NaN where there is one video alone.

    Raises:
        DataError: there is no video, or a value is not finite.
        ConfigError: options that cannot work.
    """
    check_options(confidence, resamples)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim == 0 or len(table) == 0:
        raise DataError("there are no videos to take a mean over")
    if not np.isfinite(table).all():
        raise DataError("there are values that are NaN or infinite among those to take a mean over")
    mean = np.asarray(table.mean(axis=0))
    if len(table) == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    if np.ptp(table, axis=0).max() == 0:  # scipy warns of it, and is right: there is nothing to resample
        return mean, mean.copy(), mean.copy()
    found = stats.bootstrap(
        (table,),
        np.mean,
        axis=0,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BLOCK // table.size),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return mean, np.asarray(found.confidence_interval.low), np.asarray(found.confidence_interval.high)


def paired_differences(
    table: pd.DataFrame,
    value: str,
    reference: str,
    *,
    way: str = "choice",
    unit: str = "video",
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """How much other ways differ from a reference on the same videos.

    Args:
        table: one row a video and way.
        value: the column to compare.
        reference: the way that the others are compared with.
        way: the column with the ways.
        unit: the column with the videos.
        confidence: of each interval by itself.
        resamples: of the videos.
        seed: of the resamples.

    Returns:
        One row another way, in the order of the table: ``way``, ``mean`` of its values, ``difference`` (its value less
        the reference's, mean over the videos), ``low`` and ``high`` end of that, ``above`` (share of the videos in
        which its value is above the reference's), ``videos``.

    Raises:
        DataError: no such way, no other one, or a video without one of the ways.
    """
    ways = list(dict.fromkeys(table[way]))
    if reference not in ways or len(ways) < 2:
        raise DataError(
            f"nothing to compare with {reference!r}: there are {', '.join(map(repr, ways)) or 'no ways'}",
            "name one of several ways as the reference",
        )
    if table.duplicated([unit, way]).any():
        raise DataError(f"there is more than one {value} for the same {unit} and {way}")
    wide = table.pivot(index=unit, columns=way, values=value)
    lacking = wide.index[wide.isna().any(axis=1)]
    if len(lacking):
        raise DataError(f"{len(lacking)} of {len(wide)} videos lack a {value} of one of the ways, first {lacking[0]}")
    others = [name for name in ways if name != reference]
    differences = wide[others].to_numpy() - wide[[reference]].to_numpy()  # [V, ways]
    mean, low, high = mean_intervals(differences, confidence=confidence, resamples=resamples, seed=seed)
    return pd.DataFrame(
        {
            way: others,
            "mean": wide[others].mean().to_numpy(),
            "difference": mean,
            "low": low,
            "high": high,
            "above": (differences > 0).mean(axis=0),
            "videos": len(wide),
        }
    )
