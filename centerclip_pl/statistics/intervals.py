"""Confidence intervals over queries: what other test videos would have given the same trained model.

The resampled unit is the video, with all of its captions: captions of one video share its difficulty, and resampling
them one by one would make the intervals too narrow. This is the cluster bootstrap (Davison and Hinkley, Bootstrap
Methods and their Application, 1997, section 3.8; Field and Welsh, Bootstrapping clustered data, J. R. Statist. Soc. B
69, 2007). The intervals are percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13). The gallery stays as it is: ranks are not computed anew among the resampled videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from centerclip_pl.errors import ConfigError
from centerclip_pl.statistics.queries import Queries, align

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 10_000
KS = (1, 5, 10)
_BLOCK = 4_000_000
"""Draws at a time: 32 MB for each array of 8-byte numbers."""
_COARSE = 32
"""Ranks looked at first in the search for medians."""


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval; the ends are NaN where there is none."""

    value: float
    low: float
    high: float


def query_intervals(
    frames: Sequence[pd.DataFrame],
    *,
    ks: Sequence[int] = KS,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> dict[str, Interval]:
    """Metrics of ranks with bootstrap intervals over videos.

    Args:
        frames: the ranks of one run, or of several runs (seeds) of the same queries: then the figure is the mean over
            the runs, of these runs and no others. Columns as in ``ranks.parquet``.
        ks: for R@k.
        confidence: in (0, 1).
        resamples: of the videos.
        seed: of the resampling.
        names: what to call the runs in errors.

    Returns:
        By name: ``t2v/R@k`` in percent, ``t2v/MdR``, ``t2v/MnR``, and the same with ``v2t/``; ``dual_softmax/t2v/...``
        and the like where all runs have such ranks. With a single video there is nothing to resample, and no interval.

    Raises:
        ConfigError: confidence or resamples that cannot work.
        DataError: no ranks, or runs of different queries.
    """
    check_options(confidence, resamples)
    found = {}
    for direction, queries in align(frames, names).items():
        values = metrics_of(queries, ks)
        draws = bootstrap(queries, ks, resamples, seed)
        for name, value in values.items():
            low, high = percentiles(draws[name].mean(axis=1), confidence) if queries.videos > 1 else (np.nan, np.nan)
            found[f"{direction}/{name}"] = Interval(float(value.mean()), low, high)
    return found


def check_options(confidence: float, resamples: int) -> None:
    """Refuses what cannot work, with a `ConfigError`."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence is {confidence}", "choose a number between 0 and 1; 0.95 is usual")
    if resamples < 100:
        raise ConfigError(
            f"resamples is {resamples}", "take at least 100, and 1,000 or more for figures that are to be published"
        )


def percentiles(draws: Floats, confidence: float) -> tuple[float, float]:
    """The ends of the percentile interval of resampled values ``[B]``."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def metrics_of(queries: Queries, ks: Sequence[int] = KS) -> dict[str, Floats]:
    """``R@k`` (percent), ``MdR`` and ``MnR`` of each run: ``[R]``."""
    ranks = queries.ranks
    recalls = {f"R@{k}": 100 * (ranks <= k).mean(axis=1) for k in ks}
    return {**recalls, "MdR": np.median(ranks, axis=1), "MnR": ranks.mean(axis=1)}


def bootstrap(queries: Queries, ks: Sequence[int] = KS, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Floats]:
    """The metrics of each run in resampled sets of videos: ``[resamples, R]``.

    All runs see the same videos in a resample, so that differences between columns are paired. The results depend on
    ``seed`` alone, not on the machine's memory.
    """
    runs = len(queries.ranks)
    count = _per_video(queries, np.ones(len(queries.video)))
    # Recalls and mean ranks are ratios of sums over videos: [V, runs] each.
    sums = {f"R@{k}": _per_video(queries, 100.0 * (queries.ranks <= k)) for k in ks}
    sums["MnR"] = _per_video(queries, queries.ranks)
    medians = [_Medians(ranks, queries.video, queries.videos) for ranks in queries.ranks]
    draws = {name: np.empty((resamples, runs)) for name in [*sums, "MdR"]}
    start = 0
    for weights in _resampled(queries.videos, resamples, seed):
        rows = slice(start, start + len(weights))
        total = weights @ count  # [b, 1]: queries in a resample; videos have different numbers of captions
        for name, each in sums.items():
            draws[name][rows] = weights @ each / total
        for run, median in enumerate(medians):
            draws["MdR"][rows, run] = median(weights, total[:, 0])
        start = rows.stop
    return draws


def _per_video(queries: Queries, values: NDArray[np.floating]) -> Floats:
    """``[..., Q]`` -> sums ``[V, ...]``."""
    rows = np.atleast_2d(values)
    return np.stack([np.bincount(queries.video, weights=row, minlength=queries.videos) for row in rows], axis=1)


def _resampled(videos: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each video is drawn: ``[b, V]``, in blocks of bounded size that make up all resamples."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // videos)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(0, videos, size=(rows, videos), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * videos
        yield np.bincount(drawn.ravel(), minlength=rows * videos).reshape(rows, videos).astype(np.float64)


class _Medians:
    """Median ranks of weighted sets of videos: exact, without sorting each set.

    The median is the smallest rank that half of the queries do not exceed, so it is found by counting queries up to a
    rank, a product of weights and a table ``[V, ranks]``: of a few ranks first, then of those near the medians.

    Args:
        ranks: ``[Q]``.
        video: ``[Q]``.
        videos: V.
    """

    def __init__(self, ranks: Floats, video: NDArray[np.int64], videos: int) -> None:
        self.ranks, self.video, self.videos = ranks, video, videos
        self.distinct = np.unique(ranks)
        # The last one stands for "every query": always at least as large as the median.
        self.coarse = np.unique(np.linspace(0, len(self.distinct) - 1, _COARSE).astype(int))
        self.table = self._table(self.coarse)

    def __call__(self, weights: Floats, total: Floats) -> Floats:
        """``[b, V]`` and the number of queries ``[b]`` -> ``[b]``."""
        total = np.rint(total)
        # Places, from 0, of the one or two queries in the middle.
        middle = np.stack([(total - 1) // 2, total // 2], axis=1)
        counted = weights @ self.table
        at = _first_above(counted, middle)
        low = self.coarse[at.min() - 1] + 1 if at.min() > 0 else 0
        near = np.arange(low, self.coarse[at.max()] + 1)
        found = near[_first_above(weights @ self._table(near), middle)]
        return self.distinct[found].mean(axis=1)

    def _table(self, chosen: NDArray[np.int64]) -> Floats:
        """Queries of each video up to the chosen ranks: ``[V, C]``."""
        limits = self.distinct[chosen]
        column = np.searchsorted(limits, self.ranks)  # the first limit that is not below the rank
        kept = column < len(limits)
        place = self.video[kept] * len(limits) + column[kept]
        each = np.bincount(place, minlength=self.videos * len(limits)).reshape(self.videos, len(limits))
        return np.cumsum(each, axis=1, dtype=np.float64)


def _first_above(counted: Floats, places: Floats) -> NDArray[np.int64]:
    """For counts ``[b, C]`` that ascend and places ``[b, 2]``: the first column with more than so many."""
    return np.stack([(counted <= places[:, [n]]).sum(axis=1) for n in range(places.shape[1])], axis=1)
