from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from centerclip_pl.statistics import drop_repeated_seeds, over_seeds


def test_mean_and_deviation_over_seeds() -> None:
    found = over_seeds([70.0, 74.0, 78.0])
    assert (found.n, found.mean, found.std) == (3, 74, 4)
    peer = stats.ttest_1samp([70.0, 74.0, 78.0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high))
    assert str(found) == "74.0 ± 4.0 (3 seeds)"


def test_one_seed_has_neither_deviation_nor_interval() -> None:
    found = over_seeds([70.0])
    assert found.mean == 70
    assert math.isnan(found.std)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert str(found) == "70.0 (one seed)"


def test_the_interval_holds_the_truth_with_two_seeds() -> None:
    random = np.random.default_rng(0)
    found = [over_seeds(random.normal(50, 3, 2).tolist()) for _ in range(2000)]
    assert np.mean([each.low <= 50 <= each.high for each in found]) == pytest.approx(0.95, abs=0.02)


def _runs(*rows: tuple[str, float | None, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["run", "seed", "created", "t2v/R@1"])


def test_the_newest_run_of_a_seed_counts() -> None:
    runs = _runs(("a", 0, "2026-01-02", 70), ("b", 1, "2026-01-01", 71), ("c", 0, "2026-01-01", 69), ("d", 2, "x", 70))
    kept, notes = drop_repeated_seeds(runs)
    assert kept["run"].tolist() == ["a", "b", "d"]
    assert notes == ["seed 0: 2 runs of one setting; the newest counts (a), left out: c"]


def test_runs_without_a_seed_count_unless_they_are_equal() -> None:
    runs = _runs(("a", None, "1", 70), ("b", None, "2", 71), ("c", None, "3", 70), ("d", 0, "4", 70))
    kept, notes = drop_repeated_seeds(runs)
    assert kept["run"].tolist() == ["b", "c", "d"]
    assert notes == ["equal runs without a seed: 2 runs of one setting; the newest counts (c), left out: a"]


def test_different_seeds_all_count() -> None:
    runs = _runs(("a", 0, "1", 70), ("b", 1, "1", 70))
    kept, notes = drop_repeated_seeds(runs)
    assert kept["run"].tolist() == ["a", "b"]
    assert notes == []
