from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.report.against import Against
from centerclip_pl.report.findings import Names, best_setting, cheapest_within, findings


def table(
    values: list[float], gmacs: list[float], *, low: float = 3, seeds: int = 1, name: str = "t2v/R@1"
) -> pd.DataFrame:
    value = np.array(values)
    return pd.DataFrame(
        {
            "n_seeds": seeds,
            name: value,
            f"{name} std": 1.25 if seeds > 1 else math.nan,
            f"{name} low": value - low,
            f"{name} high": value + low,
            "gmacs": gmacs,
        }
    )


def test_the_best_has_the_highest_recall_or_the_lowest_rank_and_of_equal_ones_the_lowest_cost() -> None:
    assert best_setting(table([50, 60, 60, 40], [1, 3, 2, 1]), "t2v/R@1") == 2
    assert best_setting(table([2, 1, 1, 4], [1, 3, 2, 1], name="t2v/MnR"), "t2v/MnR") == 2
    assert best_setting(table([math.nan, 60, 60], [1, math.nan, 9]), "t2v/R@1") == 2


@pytest.mark.parametrize("metric", ["t2v/R@1", "v2t/MnR"])
def test_the_cheapest_within_the_interval_of_the_best(metric: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        values, gmacs = random.uniform(40, 60, 8), random.uniform(1, 2, 8)
        summary = table(list(values), list(gmacs), low=5, name=metric)
        best = best_setting(summary, metric)
        if metric.endswith("R@1"):
            inside = [k for k in range(8) if values[k] >= max(values) - 5]
        else:
            inside = [k for k in range(8) if values[k] <= min(values) + 5]
        assert cheapest_within(summary, metric, best) == min(inside, key=lambda k: gmacs[k])


def test_without_an_interval_nothing_is_said_about_the_cheapest() -> None:
    summary = table([50, 60], [1, 2]).assign(**{"t2v/R@1 low": math.nan})
    assert cheapest_within(summary, "t2v/R@1", 1) is None
    said = " ".join(findings(summary, Names(["a", "b"], 1, None), "t2v/R@1", [], 0.95))
    assert "Cheapest" not in said
    assert "no interval over queries" in said


def test_sentences_hold_the_figures() -> None:
    summary = table([50, 60, 58], [1.5, 4, 2], seeds=3)
    against = [
        Against(1, 10.04, 6, 14, 0.001, 0.002, "better", over_seeds=True),
        Against(2, 8, -1, 15, 0.06, 0.06, "unknown", over_seeds=True),
    ]
    said = findings(summary, Names(["base", "big", "small"], 1, 0), "t2v/R@1", against, 0.9)
    assert said[0] == (
        "Best of 3 settings by text to video R@1: big, 60.0 (mean of 3 seeds, standard deviation 1.2; 90 % interval "
        "over queries 57.0 to 63.0)."
    )
    assert said[2] == "Better than the baseline (base) by text to video R@1: big (+10.0, p = 0.002)."
    assert said[3] == "Cannot be told from the baseline (base) by text to video R@1: small (+8.0)."
    assert "2 comparisons" in said[4]
    assert "at most 10 %" in said[4]
    assert said[5] == (
        "Cheapest setting within the best one's interval: small, 2.00 GMACs a video, 50 % fewer than the best one's "
        "4.00, at 58.0 (−2.0). That is no test of the two: `centerclip compare` makes one, on the same queries."
    )
    assert "by 1.2 (standard deviation" in said[6]


def test_one_seed_and_what_could_not_be_compared_are_said() -> None:
    summary = table([50, 60, 58], [1, 2, 3])
    nothing = (math.nan,) * 5
    against = [
        Against(1, -3, -6, -0.5, 0.01, 0.01, "worse", over_seeds=False),
        Against(2, *nothing, verdict=None, over_seeds=False, why="there are no ranks"),
    ]
    said = findings(summary, Names(["baseline", "b", "c"], 1, 0), "t2v/R@1", against, 0.95)
    assert "Worse than the baseline by text to video R@1: b (−3.0, p = 0.010)." in said
    assert any("nothing about training either of them again" in each for each in said)
    assert "Not compared with the baseline: c (there are no ranks)." in said
    assert not any("Training again with another seed moves" in each for each in said)


def test_a_single_setting() -> None:
    said = findings(table([50], [1]), Names(["only"], 0, None), "t2v/R@1", [], 0.95)
    assert said == [
        "The one setting, only, has text to video R@1 50.0 (one seed; 95 % interval over queries 47.0 to 53.0)."
    ]


def test_a_saving_of_less_than_a_hundredth_is_none() -> None:
    said = findings(table([59, 60], [3.99, 4]), Names(["a", "b"], 1, None), "t2v/R@1", [], 0.95)
    assert said[-1] == "No setting within the best one's interval is cheaper; that takes 4.00 GMACs a video."


def test_the_winner_is_compared_with_the_baseline_only_where_there_is_another_one() -> None:
    summary = table([50, 60], [1, 2])
    one = Against(1, 10, 6, 14, 0.01, 0.01, "better", over_seeds=False)
    other = Against(0, -10, -14, -6, 0.01, 0.01, "worse", over_seeds=False)
    said: dict[tuple[int, object], str] = {
        (best, baseline): findings(summary, Names(["a", "b"], best, baseline), "t2v/R@1", against, 0.95)[1]
        for best, baseline, against in ((1, 0, [one]), (1, 1, [other]), (1, None, []))
    }
    failed = Against(1, *(math.nan,) * 5, verdict=None, over_seeds=False, why="there are no ranks")
    said[1, "failed"] = findings(summary, Names(["a", "b"], 1, 0), "t2v/R@1", [failed], 0.95)[1]
    assert {key[1] for key, text in said.items() if "corrected comparison" in text} == {0}
    assert all("other test videos" in each for each in said.values())


@pytest.mark.parametrize(("rule", "trained"), [("best", True), ("last", True), ("zero-shot", False), ("given", False)])
def test_seeds_of_weights_from_elsewhere_are_no_trainings(rule: str, trained: bool) -> None:
    summary = table([50, 60], [1, 2], seeds=3).assign(selection=rule)
    said = findings(summary, Names(["a", "b"], 1, None), "t2v/R@1", [], 0.95)
    assert any("Training again with another seed moves" in each for each in said) == trained
