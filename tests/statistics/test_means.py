from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.statistics.means import mean_intervals, paired_differences


def slow_interval(values: np.ndarray, confidence: float, resamples: int) -> tuple[float, float]:
    """Percentile bootstrap of a mean, one resample after the other."""
    random = np.random.default_rng(1)
    means = []
    for _ in range(resamples):
        means.append(np.mean([values[random.integers(len(values))] for _ in values]))
    return float(np.quantile(means, (1 - confidence) / 2)), float(np.quantile(means, (1 + confidence) / 2))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_against_a_loop(confidence: float) -> None:
    values = np.random.default_rng(0).gamma(2, size=(30, 2))
    mean, low, high = mean_intervals(values, confidence=confidence)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    for column in range(2):
        expected = slow_interval(values[:, column], confidence, 3000)
        assert (low[column], high[column]) == pytest.approx(expected, abs=0.03)


def test_columns_share_their_resamples_and_the_seed_decides() -> None:
    values = np.random.default_rng(0).normal(size=(20, 1))
    both = mean_intervals(np.concatenate([values, values + 5], axis=1))
    np.testing.assert_allclose([end[1] - end[0] for end in both], 5)
    np.testing.assert_array_equal(mean_intervals(values)[1], mean_intervals(values)[1])
    assert mean_intervals(values, seed=1)[1] != mean_intervals(values)[1]
    assert mean_intervals(values[:, 0])[0].shape == ()


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(3.0, 1.0, size=(40, 300))  # 300 studies of 40 videos, a column each
    _, low, high = mean_intervals(draws, resamples=1000)
    assert 0.90 < np.mean((low <= 3.0) & (high >= 3.0)) < 0.98


def test_one_video_has_no_interval_and_equal_ones_no_width() -> None:
    mean, low, high = mean_intervals([[1.0, 2.0]])
    assert mean.tolist() == [1.0, 2.0]
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert [end.tolist() for end in mean_intervals([2.0, 2.0, 2.0])] == [2.0, 2.0, 2.0]


def frame(**ways: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [(f"v{n}", way, value) for way, values in ways.items() for n, value in enumerate(values)],
        columns=["video", "choice", "mean"],
    )


def test_paired_differences() -> None:
    base = np.random.default_rng(0).normal(size=25)
    table = frame(b=list(base + 0.5), a=list(base), c=list(base[::-1]))
    found = paired_differences(table.sample(frac=1, random_state=0).sort_values("choice", kind="stable"), "mean", "a")
    assert found["choice"].tolist() == ["b", "c"]
    b, c = found.to_dict("records")
    # Paired, a constant shift is known exactly, however much the videos differ.
    assert (b["difference"], b["low"], b["high"]) == pytest.approx((0.5, 0.5, 0.5))
    assert b["above"] == 1
    assert b["mean"] == pytest.approx(base.mean() + 0.5)
    assert b["videos"] == 25
    assert c["difference"] == pytest.approx(0, abs=1e-12)
    assert c["low"] < 0 < c["high"]
    expected = slow_interval(base[::-1] - base, 0.95, 3000)
    assert (c["low"], c["high"]) == pytest.approx(expected, abs=0.05)
    assert c["above"] == np.mean(base[::-1] > base)


def test_mistakes() -> None:
    table = frame(a=[1.0, 2.0], b=[1.0, 3.0])
    for call, error, says in (
        (lambda: mean_intervals([]), DataError, "no videos"),
        (lambda: mean_intervals([1.0, np.nan]), DataError, "NaN"),
        (lambda: mean_intervals([1.0, 2.0], confidence=95), ConfigError, "confidence is 95"),
        (lambda: mean_intervals([1.0, 2.0], resamples=3), ConfigError, "resamples is 3"),
        (lambda: paired_differences(table, "mean", "z"), DataError, "compare with 'z'"),
        (lambda: paired_differences(table.head(2), "mean", "a"), DataError, "compare with 'a'"),
        (lambda: paired_differences(table.head(3), "mean", "a"), DataError, "1 of 2 videos lack"),
        (lambda: paired_differences(pd.concat([table, table]), "mean", "a"), DataError, "more than one"),
    ):
        with pytest.raises(error, match=says):
            call()
