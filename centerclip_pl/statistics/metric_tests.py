"""The figures and tests of two settings, one direction of the retrieval at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from centerclip_pl.runs.columns import is_metric
from centerclip_pl.statistics.comparison import MetricComparison
from centerclip_pl.statistics.intervals import Floats, bootstrap, metrics_of
from centerclip_pl.statistics.paired import (
    Difference,
    mcnemar,
    over_videos,
    over_videos_and_seeds,
    sign_flip,
    wilcoxon,
)
from centerclip_pl.statistics.queries import Queries
from centerclip_pl.statistics.seeds import over_seeds


class MetricTests:
    """All figures of one direction at a time.

    Args:
        a: one row a seed.
        b: the same.
        ks: of R@k.
        of_methods: whether seeds count.
        confidence: of the intervals.
        resamples: of videos.
        seed: of the resampling.
    """

    def __init__(
        self,
        a: pd.DataFrame,
        b: pd.DataFrame,
        ks: Sequence[int],
        of_methods: bool,
        confidence: float,
        resamples: int,
        seed: int,
    ) -> None:
        self.a, self.b, self.ks, self.of_methods = a, b, ks, of_methods
        self.confidence, self.resamples, self.seed = confidence, resamples, seed

    def of(self, family: str, queries: Queries) -> list[MetricComparison]:
        """The metrics of a direction; rows of ``queries`` are the runs of A, then those of B."""
        values, count = metrics_of(queries, self.ks), len(self.a)
        draws = bootstrap(queries, self.ks, self.resamples, self.seed) if queries.videos > 1 else None
        linear = {f"R@{k}": 100.0 * (queries.ranks <= k) for k in self.ks} | {"MnR": queries.ranks}
        differences = {name: _of_videos(queries, each, count) for name, each in linear.items()}
        flipped = sign_flip(np.stack(list(differences.values()), axis=1), resamples=self.resamples, seed=self.seed)
        p_videos = dict(zip(differences, flipped.tolist(), strict=True))
        per_video = np.bincount(queries.video, minlength=queries.videos)
        found = []
        for name, each in values.items():
            drawn = None if draws is None else draws[name]
            difference = self._difference(each, drawn, p_videos.get(name), queries.videos)
            exact = None
            if name.startswith("R@") and len(queries.ranks) == 2 and queries.videos == len(queries.video):
                hits = queries.ranks <= int(name[2:])
                exact = mcnemar(hits[0], hits[1])
            found.append(
                MetricComparison(
                    name=f"{family}/{name}",
                    a=over_seeds(each[:count].tolist(), self.confidence),
                    b=over_seeds(each[count:].tolist(), self.confidence),
                    difference=difference,
                    p_videos=p_videos.get(name),
                    p_wilcoxon=wilcoxon(differences["MnR"] / per_video) if name == "MnR" else None,
                    mcnemar=exact,
                    by_seed=self._by_seed(each),
                )
            )
        return found

    def _difference(self, values: Floats, draws: Floats | None, p: float | None, videos: int) -> Difference:
        a, b = values[: len(self.a)], values[len(self.a) :]
        if draws is None:
            return Difference(float(b.mean() - a.mean()), math.nan, math.nan, None)
        drawn = draws[:, len(a) :].mean(axis=1) - draws[:, : len(a)].mean(axis=1)
        if self.of_methods:
            return over_videos_and_seeds(drawn, a.tolist(), b.tolist(), videos, self.confidence)
        return over_videos(drawn, float(b.mean() - a.mean()), p, self.confidence)

    def _by_seed(self, values: Floats) -> dict[int, float]:
        seeds_a, seeds_b = seeds_of(self.a), seeds_of(self.b)
        shared = [each for each in seeds_a if each is not None and each in seeds_b]
        return {
            each: float(values[len(seeds_a) + seeds_b.index(each)] - values[seeds_a.index(each)]) for each in shared
        }

    def without_ranks(self, known: set[str]) -> list[MetricComparison]:
        """Metrics of ``results.json`` that are not about all queries, or that the ranks lack: figures alone."""
        found = []
        for name in filter(is_metric, self.a.columns):
            if name in known or name not in self.b.columns:
                continue
            values = np.concatenate([self.a[name].to_numpy(dtype=float), self.b[name].to_numpy(dtype=float)])
            if not np.isnan(values).any():
                a, b = (over_seeds(part.tolist()) for part in (values[: len(self.a)], values[len(self.a) :]))
                difference = Difference(b.mean - a.mean, math.nan, math.nan, None)
                found.append(MetricComparison(name, a, b, difference, None, None, None, self._by_seed(values)))
        return found


def seeds_of(runs: pd.DataFrame) -> list[int | None]:
    """The column ``seed``; None where a run had none."""
    return [None if pd.isna(each) else int(each) for each in runs["seed"]]


def _of_videos(queries: Queries, values: NDArray[np.floating], count: int) -> Floats:
    """B less A, means over runs and sums over the captions of a video: ``[V]``."""
    each = values[count:].mean(axis=0) - values[:count].mean(axis=0)
    return np.bincount(queries.video, weights=each, minlength=queries.videos).astype(np.float64)
