from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from centerclip_pl.statistics.paired import (
    holm,
    mcnemar,
    over_videos,
    over_videos_and_seeds,
    sign_flip,
    wilcoxon,
)


def test_mcnemar_counts_and_its_exact_probability() -> None:
    a = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 0], dtype=bool)
    b = np.array([0, 0, 0, 0, 0, 1, 1, 0, 1, 0], dtype=bool)
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (5, 1)
    # both tails: 0, 1, 5 or 6 of 6 coins
    assert found.p == pytest.approx(sum(math.comb(6, n) for n in (0, 1, 5, 6)) / 2**6)
    assert mcnemar(b, a).p == pytest.approx(found.p)
    assert mcnemar(a, a).p == 1


def test_wilcoxon_counts_all_signs_of_few_differences() -> None:
    differences = np.array([1.5, -2, 3, 4, 5.5, 0, 0, 7])
    moved = differences[differences != 0]
    places = np.argsort(np.argsort(np.abs(moved))) + 1
    observed = abs(sum(places * np.sign(moved)))
    sums = [abs(sum(places * np.array(signs))) for signs in itertools.product([-1, 1], repeat=len(moved))]
    assert wilcoxon(differences) == pytest.approx(np.mean([each >= observed for each in sums]))
    assert wilcoxon(np.zeros(9)) == 1


def test_sign_flips_of_few_videos_are_all_counted() -> None:
    differences = np.array([[100.0, 3], [100, -1], [0, 2], [-100, 7], [100, 0.1], [100, 0.2], [0, 0.3]])
    found = sign_flip(differences, resamples=1000)
    for column, p in zip(differences.T, found, strict=True):
        sums = [abs(sum(column * np.array(signs))) for signs in itertools.product([-1, 1], repeat=len(column))]
        assert p == pytest.approx(np.mean([each >= abs(sum(column)) - 1e-9 for each in sums]))


def test_sampled_sign_flips_agree_with_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    differences = np.stack([random.choice([-1.0, 0, 1], 80, p=[0.1, 0.7, 0.2]), random.normal(0.15, 1, 80)], axis=1)
    monkeypatch.setattr("centerclip_pl.statistics.paired._BLOCK", 80 * 700)  # several blocks
    found = sign_flip(differences, resamples=9000, seed=1)
    for column, p in zip(differences.T, found, strict=True):
        peer = stats.permutation_test(
            (column,),
            lambda x, axis: x.sum(axis=axis),
            permutation_type="samples",
            n_resamples=9000,
            vectorized=True,
            rng=np.random.default_rng(3),
        )
        assert p == pytest.approx(peer.pvalue, abs=0.02)


def test_sign_flips_of_nothing_and_of_mixed_metrics() -> None:
    many = np.random.default_rng(0).normal(0, 1, 50)
    mixed = np.stack([np.zeros(50), many, np.r_[1.0, np.zeros(49)]], axis=1)
    found = sign_flip(mixed, resamples=500)
    assert found[0] == 1
    assert found[1] == sign_flip(many[:, None], resamples=500)[0]
    assert found[2] == 1  # one video: both flips are as far from 0
    assert sign_flip(np.full((200, 1), 5.0), resamples=500)[0] == 1 / 501


def test_paired_tests_find_as_much_under_the_null_as_they_say() -> None:
    """Two models that differ by chance alone: about 1 in 20 are found; bounds are 4 standard errors of 500 trials."""
    random = np.random.default_rng(7)
    p: dict[str, list[float]] = {"mcnemar": [], "sign flips": [], "wilcoxon": []}
    for trial in range(500):
        easy = random.random(120)
        a, b = (np.floor(1 + 30 * np.maximum(0, easy + 0.3 * random.standard_normal(120) - 0.5)) for _ in range(2))
        p["mcnemar"].append(mcnemar(a <= 1, b <= 1).p)
        p["sign flips"].append(sign_flip((b - a)[:, None], resamples=300, seed=trial)[0])
        p["wilcoxon"].append(wilcoxon(b - a))
    found = {name: np.mean(np.array(each) < 0.05) for name, each in p.items()}
    assert found["mcnemar"] < 0.05 + 4 * 0.0098  # exact, so below 5 in 100
    assert found["sign flips"] == pytest.approx(0.05, abs=4 * 0.0098)
    assert found["wilcoxon"] == pytest.approx(0.05, abs=4 * 0.0098)


def test_the_interval_over_videos_is_of_percentiles() -> None:
    draws = np.arange(1001.0)
    found = over_videos(draws, 480.0, 0.25, 0.9)
    assert (found.value, found.low, found.high, found.p) == pytest.approx((480, 50, 950, 0.25))


def test_variances_of_videos_and_seeds_add() -> None:
    draws = np.random.default_rng(0).normal(5, 2, 4000)
    a, b = [50.0, 52, 54], [57.0, 57.5]
    found = over_videos_and_seeds(draws, a, b, videos=200)
    parts = {"videos": (np.var(draws, ddof=1), 199), "a": (4 / 3, 2), "b": (0.125 / 2, 1)}
    total = sum(part for part, _ in parts.values())
    freedom = total**2 / sum(part**2 / df for part, df in parts.values())
    assert found.value == 57.25 - 52
    assert found.high - found.low == pytest.approx(2 * stats.t(freedom).ppf(0.975) * math.sqrt(total))
    assert (found.low + found.high) / 2 == pytest.approx(found.value)
    assert found.p == pytest.approx(2 * stats.t(freedom).sf(found.value / math.sqrt(total)))


def test_without_seeds_that_differ_the_videos_decide() -> None:
    draws = np.random.default_rng(0).normal(5, 2, 4000)
    found = over_videos_and_seeds(draws, [50.0, 50.0], [55.0, 55.0], videos=100_000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(draws, ddof=1), rel=1e-3)


def test_nothing_ever_differs() -> None:
    same = over_videos_and_seeds(np.zeros(100), [50.0, 50.0], [50.0, 50.0], videos=20)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(("seeds", "of_seed"), [(2, 0.0), (2, 0.2), (3, 0.1), (3, 0.3), (5, 0.1), (5, 0.3)])
def test_the_interval_over_videos_and_seeds_holds_the_truth(seeds: int, of_seed: float) -> None:
    """Methods that do not differ, whose trainings do; queries share a difficulty. Bounds: 4 standard errors, below."""
    random = np.random.default_rng(11)
    videos, trials, held, videos_alone = 100, 300, 0, 0
    for _ in range(trials):
        difficulty = random.standard_normal(videos)

        def hits(difficulty: np.ndarray = difficulty) -> np.ndarray:
            skill = of_seed * random.standard_normal((seeds, 1))
            return 100.0 * (difficulty + 0.4 * random.standard_normal((seeds, videos)) < skill)

        a, b = hits(), hits()
        weights = random.multinomial(videos, np.full(videos, 1 / videos), size=200) / videos
        draws = weights @ (b.mean(axis=0) - a.mean(axis=0))
        found = over_videos_and_seeds(draws, a.mean(axis=1).tolist(), b.mean(axis=1).tolist(), videos)
        held += found.low <= 0 <= found.high
        videos_alone += np.quantile(draws, 0.025) <= 0 <= np.quantile(draws, 0.975)
    assert held / trials > 0.95 - 4 * 0.0126
    if of_seed >= 0.3:
        assert videos_alone / trials < 0.7  # an interval over videos says nothing of other trainings


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5
    assert holm([0.03, 0.01, 0.5, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.6]).tolist() == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.9]).tolist() == [1, 1]
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []


def test_holm_keeps_the_chance_of_any_false_finding() -> None:
    random = np.random.default_rng(0)
    any_found = np.mean([(holm(random.random(8)) < 0.05).any() for _ in range(2000)])
    assert any_found == pytest.approx(0.05, abs=0.02)
