"""Tests of two methods on the same queries. Which question each of them answers, docs/statistics.md tells.

McNemar, Wilcoxon and sign flips ask about these trained models: would they differ on other videos as well? None of them
knows that training again gives other models; `over_videos_and_seeds` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from centerclip_pl.statistics.intervals import CONFIDENCE, RESAMPLES, Floats, percentiles

_BLOCK = 4_000_000
"""Signs at a time: 32 MB."""


@dataclass(frozen=True)
class McNemar:
    """Queries that one of two models alone finds, and the exact p-value of their imbalance."""

    only_a: int
    only_b: int
    p: float


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> McNemar:
    """The exact McNemar test: under the null, a query that one model alone finds is either's with probability 1/2.

    McNemar, Psychometrika 12 (1947), with binomial probabilities in place of chi-squared ones. It takes queries for
    independent; use it with one query a video.

    Args:
        a: bool ``[Q]``: which queries A finds.
        b: the same of B.
    """
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def wilcoxon(differences: Floats) -> float:
    """p-value of the signed rank test of Wilcoxon (Biometrics Bulletin 1, 1945).

    The null: differences lie symmetrically about 0.
    Unlike a test of the mean, it does not let a few queries with very high ranks decide. Zeros are left out; with ties
    or more than 50 differences the normal approximation is used.

    Args:
        differences: of ranks, ``[V]``, one a video (its mean over captions and runs).
    """
    moved = differences[differences != 0]
    return float(stats.wilcoxon(moved).pvalue) if len(moved) else 1.0


def sign_flip(differences: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """p-values of the two-sided permutation test that swaps A and B within each video.

    Under the null, a video's difference (summed over its captions, mean over runs) is as likely to be its negative
    (Fisher, The Design of Experiments, 1935; Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989). All
    2^n flips are counted where that is not more than ``resamples``, n being the videos with a difference; otherwise a
    random sample of them, with the observed one added (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010).

    Args:
        differences: ``[V, M]`` of M metrics.
        resamples: flips in a random sample.
        seed: of the sample.

    Returns:
        ``[M]``.
    """
    videos, metrics = differences.shape
    p = np.ones(metrics)
    moved = (differences != 0).sum(axis=0)
    exact = [m for m in range(metrics) if moved[m] and 2.0 ** moved[m] <= resamples]
    sampled = [m for m in range(metrics) if 2.0 ** moved[m] > resamples]
    for m in exact:
        each = differences[differences[:, m] != 0, m]
        flips = 1.0 - 2.0 * ((np.arange(2 ** len(each))[:, None] >> np.arange(len(each))) & 1)
        p[m] = np.mean(_reaches(flips @ each, each.sum(), np.abs(each).sum()))
    if sampled:
        chosen = differences[:, sampled]
        observed, size = chosen.sum(axis=0), np.abs(chosen).sum(axis=0)
        random, block, reached = np.random.default_rng(seed), max(1, _BLOCK // videos), np.zeros(len(sampled))
        for start in range(0, resamples, block):
            rows = min(block, resamples - start)
            flips = 2.0 * random.integers(0, 2, size=(rows, videos), dtype=np.int8) - 1.0
            reached += _reaches(flips @ chosen, observed, size).sum(axis=0)
        p[sampled] = (1 + reached) / (1 + resamples)
    return p


def _reaches(flipped: Floats, observed: Floats | float, size: Floats | float) -> NDArray[np.bool_]:
    """At least as far from 0 as observed; sums in another order differ by rounding."""
    return np.abs(flipped) >= np.abs(observed) - 1e-12 * np.asarray(size)


@dataclass(frozen=True)
class Difference:
    """B less A, with its interval and, where a test belongs to it, the p-value."""

    value: float
    low: float
    high: float
    p: float | None


def over_videos(draws: Floats, value: float, p: float | None, confidence: float = CONFIDENCE) -> Difference:
    """The difference of these trained models on other videos: the percentile interval of the paired bootstrap.

    Args:
        draws: ``[B]`` differences in resampled sets of videos.
        value: the difference that was found.
        p: of `sign_flip`; None for what it does not test.
        confidence: in (0, 1).
    """
    return Difference(value, *percentiles(draws, confidence), p)


def over_videos_and_seeds(
    draws: Floats, a: Sequence[float], b: Sequence[float], videos: int, confidence: float = CONFIDENCE
) -> Difference:
    """The difference of two methods: other videos and other trainings.

    Runs and videos are crossed, every model is tested on every video, so that the variances of the two add: that of the
    mean difference over resampled videos, and s²/n over the seeds of A and of B. What seeds and videos have
    in common (a training finds other videos than the next one) counts in both, so the interval errs on the wide side
    (Owen, The pigeonhole bootstrap, Ann. Appl. Stat. 1, 2007). The quantile is Student's t with the degrees of freedom
    of Satterthwaite (Biometrics Bulletin 2, 1946): with 2 or 3 seeds, resampling them gives intervals that hold
    the truth in 70 to 90 of 100 cases where they should in 95; these hold it in 93 or more.

    Seeds count as independent in A and B, also where their numbers are the same.

    Args:
        draws: ``[B]`` differences of means over seeds, in resampled sets of videos.
        a: the metric of each run of A; at least two.
        b: of each run of B; at least two.
        videos: of the test.
        confidence: in (0, 1).
    """
    value = float(np.mean(b) - np.mean(a))
    of_videos = float(np.var(draws, ddof=1))
    parts = [(of_videos, videos - 1)]
    parts += [(float(np.var(each, ddof=1)) / len(each), len(each) - 1) for each in (a, b)]
    variance = sum(part for part, _ in parts)
    if variance == 0:  # no query ever changes its rank between seeds, nor do A and B differ in one
        return Difference(value, value, value, 1.0 if value == 0 else None)
    freedom = variance**2 / sum(part**2 / df for part, df in parts)
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Difference(value, value - half, value + half, float(2 * stats.t.sf(abs(value) / error, freedom)))


def holm(p: Sequence[float]) -> Floats:
    """p-values of several comparisons, adjusted so that the chance of any false finding stays below the level.

    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979); valid whatever the
    dependence between the comparisons.

    Args:
        p: ``[m]``; the adjusted ones come in the same order.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
