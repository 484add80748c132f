from __future__ import annotations

import statistics
import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from centerclip_pl.errors import ConfigError
from centerclip_pl.statistics.intervals import _resampled, bootstrap, metrics_of, percentiles, query_intervals
from centerclip_pl.statistics.queries import Queries

MakeRanks = Callable[..., pd.DataFrame]


def _queries(ranks: np.ndarray, video: np.ndarray) -> Queries:
    return Queries(np.atleast_2d(ranks).astype(float), video.astype(np.int64), int(video.max()) + 1)


def _slow(ranks: np.ndarray, video: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Every drawn video's captions in one list."""
    drawn: list[float] = []
    for number, times in enumerate(weights):
        for _ in range(int(times)):
            drawn.extend(rank for rank, owner in zip(ranks, video, strict=True) if owner == number)
    recalls = {f"R@{k}": 100 * sum(rank <= k for rank in drawn) / len(drawn) for k in (1, 5, 10)}
    return {**recalls, "MdR": statistics.median(drawn), "MnR": sum(drawn) / len(drawn)}


@pytest.mark.parametrize("case", ["uneven", "one caption", "all first", "ties", "two queries", "far apart"])
def test_resampled_metrics_are_those_of_the_drawn_captions(case: str) -> None:
    random = np.random.default_rng(4)
    video = {
        "uneven": np.repeat(np.arange(9), random.integers(1, 7, 9)),
        "one caption": np.arange(40),
        "all first": np.repeat(np.arange(5), 3),
        "ties": np.repeat(np.arange(11), 4),
        "two queries": np.arange(2),
        "far apart": np.repeat(np.arange(60), 3),
    }[case]
    ranks = {
        "all first": np.ones((2, len(video))),
        "ties": random.choice([1.0, 1.5, 7.5], size=(2, len(video))),
        "far apart": np.floor(np.exp(random.uniform(0, 8, (2, len(video))))),
    }.get(case, np.floor(1 + random.exponential(8, (2, len(video)))) + random.choice([0, 0.5], (2, len(video))))
    queries = _queries(ranks, video)
    draws = bootstrap(queries, resamples=60, seed=7)
    weights = np.concatenate(list(_resampled(queries.videos, 60, 7)))
    for number, each in enumerate(weights):
        for run in range(2):
            slow = _slow(ranks[run], video, each)
            assert {name: draws[name][number, run] for name in slow} == pytest.approx(slow, abs=1e-9)


def test_videos_are_drawn_with_replacement() -> None:
    weights = np.concatenate(list(_resampled(50, 4000, 0)))
    assert weights.shape == (4000, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert abs(weights.mean(axis=0) - 1).max() < 0.08  # 5 standard errors of a count with variance 0.98
    assert weights.var() == pytest.approx(49 / 50, rel=0.02)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    queries = _queries(random.integers(1, 50, (1, 30)), np.arange(30))
    whole = bootstrap(queries, resamples=101)
    monkeypatch.setattr("centerclip_pl.statistics.intervals._BLOCK", 30 * 7)
    for name, each in bootstrap(queries, resamples=101).items():
        np.testing.assert_allclose(each, whole[name], rtol=1e-12)


def test_agrees_with_scipy_where_a_video_has_one_caption(make_ranks: MakeRanks) -> None:
    ranks = np.floor(1 + np.random.default_rng(1).exponential(6, 150))
    found = query_intervals([make_ranks(ranks)], resamples=9000)["t2v/MnR"]
    peer = stats.bootstrap(
        (ranks,), np.mean, n_resamples=9000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == pytest.approx(ranks.mean())
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.05 * (peer.high - peer.low))


def test_the_figures_are_means_over_runs(make_ranks: MakeRanks) -> None:
    a, b = make_ranks([1, 2, 3, 40], v2t=[1, 1, 1, 9]), make_ranks([1, 1, 30, 40], v2t=[1, 2, 9, 9])
    found = query_intervals([a, b], resamples=200)
    assert found["t2v/R@1"].value == (25 + 50) / 2
    assert found["t2v/MdR"].value == (2.5 + 15.5) / 2
    assert found["v2t/R@1"].value == (75 + 25) / 2
    assert found["v2t/MnR"].value == (3 + 5.25) / 2
    assert set(found) == {f"{way}/{name}" for way in ("t2v", "v2t") for name in ("R@1", "R@5", "R@10", "MdR", "MnR")}


def test_the_order_of_rows_makes_no_difference(make_ranks: MakeRanks) -> None:
    frame = make_ranks(np.random.default_rng(3).integers(1, 30, 60), captions=3)
    assert query_intervals([frame], resamples=300) == query_intervals(
        [frame.sample(frac=1, random_state=1)], resamples=300
    )


def test_the_seed_and_nothing_else_decides(make_ranks: MakeRanks) -> None:
    frame = make_ranks(np.random.default_rng(3).integers(1, 30, 60))
    assert query_intervals([frame], resamples=300, seed=1) == query_intervals([frame], resamples=300, seed=1)
    assert query_intervals([frame], resamples=300, seed=1) != query_intervals([frame], resamples=300, seed=2)


def test_edges(make_ranks: MakeRanks) -> None:
    one = query_intervals([make_ranks([1, 4, 7], captions=3)], resamples=100)
    assert one["t2v/MdR"].value == 4
    assert all(np.isnan(each.low) and np.isnan(each.high) for each in one.values())  # a video cannot be resampled
    perfect = query_intervals([make_ranks([1] * 20)], resamples=100)
    assert perfect["t2v/R@1"] == perfect["t2v/R@10"]
    assert (perfect["t2v/R@1"].low, perfect["t2v/R@1"].high) == (100, 100)
    assert (perfect["t2v/MdR"].low, perfect["t2v/MdR"].high) == (1, 1)
    with pytest.raises(ConfigError, match="confidence is 95"):
        query_intervals([make_ranks([1, 2])], confidence=95)
    with pytest.raises(ConfigError, match="resamples is 10"):
        query_intervals([make_ranks([1, 2])], resamples=10)


def test_a_higher_confidence_is_a_wider_interval(make_ranks: MakeRanks) -> None:
    frame = make_ranks(np.random.default_rng(3).integers(1, 30, 60))
    narrow, wide = (query_intervals([frame], confidence=c)["t2v/R@5"] for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Captions of a video share its difficulty; the truth is known. Bounds: 4 standard errors of 400 trials."""
    random = np.random.default_rng(5)
    videos, captions, trials = 60, 5, 400
    video = np.repeat(np.arange(videos), captions)
    held, naive = 0, 0
    for trial in range(trials):
        chance = random.beta(0.5, 0.5, videos)[video]  # mean 1/2
        ranks = np.where(random.random(len(video)) < chance, 1.0, 20.0)
        low, high = percentiles(bootstrap(_queries(ranks, video), resamples=300, seed=trial)["R@1"][:, 0], 0.95)
        held += low <= 50 <= high
        share = np.mean(ranks == 1)
        naive += abs(share - 0.5) <= 1.96 * np.sqrt(share * (1 - share) / len(ranks))
    assert 0.95 - 4 * 0.011 - 0.01 < held / trials < 0.95 + 4 * 0.011
    assert naive / trials < 0.85  # what counting captions as independent would give


def test_medians_of_many_ranks_hold_the_truth() -> None:
    random = np.random.default_rng(6)
    held = 0
    for trial in range(300):
        ranks = np.floor(1 + random.exponential(100, 101))
        low, high = percentiles(
            bootstrap(_queries(ranks, np.arange(101)), resamples=300, seed=trial)["MdR"][:, 0], 0.95
        )
        held += low <= 1 + np.floor(100 * np.log(2)) <= high
    assert 0.9 < held / 300 < 0.99


def test_memory_is_bounded() -> None:
    """MSVD's test split: 27,763 captions of 670 videos, 10,000 resamples."""
    random = np.random.default_rng(0)
    video = np.sort(random.integers(0, 670, 27_763))
    queries = _queries(np.minimum(670, np.floor(1 + random.exponential(30, 27_763))), video)
    tracemalloc.start()
    draws = bootstrap(queries, resamples=10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6
    assert draws["MdR"].shape == (10_000, 1)
    assert metrics_of(queries)["MdR"][0] == np.median(queries.ranks[0])
    assert draws["MdR"].min() <= np.median(queries.ranks[0]) <= draws["MdR"].max()
