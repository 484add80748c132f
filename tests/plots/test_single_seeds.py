from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.plots.single_seeds import (
    against_reference,
    one_seed_in_words,
    single_seed_verdicts,
    winners_by_seed,
)
from centerclip_pl.runs import read_runs
from centerclip_pl.statistics import compare, summarise


@pytest.fixture(scope="module")
def tables(
    tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    root = tmp_path_factory.mktemp("runs")
    skills = {"baseline": (0.6, 0.66), "kmedoids": (0.62, 0.64), "spectral": (0.9, 0.92), "pooling": (0.3,)}
    for method, each in skills.items():
        for seed, skill in enumerate(each):
            write_run(root / f"{method}{seed}", method=method, seed=seed, skill=skill)
    runs = read_runs(root)
    return runs, summarise(runs, resamples=200)


def _reference(summary: pd.DataFrame) -> int:
    return int((summary["method"] == "baseline").argmax())


def test_every_setting_against_the_reference_with_holm(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs, summary = tables
    table = against_reference(runs, summary, _reference(summary), resamples=500).set_index("setting")
    assert len(table) == 3
    base = runs[runs["method"] == "baseline"]
    for name, row in table.iterrows():
        other = runs[runs["method"] == str(name).split(",")[0].split()[0]]
        found = compare(base, other, resamples=500).main.difference
        assert row["difference"] == pytest.approx(other["t2v/R@1"].mean() - base["t2v/R@1"].mean())
        assert (row["low"], row["high"]) == pytest.approx((found.low, found.high))
        assert row["of"] == ("methods" if len(other) > 1 else "models")
    # Holm by hand: the smallest p times 3, the next times 2, the largest times 1, never falling.
    p = table.sort_values("p")
    by_hand, most = [], 0.0
    for times, value in zip((3, 2, 1), p["p"], strict=True):
        most = max(most, min(1.0, times * value))
        by_hand.append(most)
    assert p["p (Holm)"].tolist() == pytest.approx(by_hand)
    assert (table["verdict"] != "cannot be told").tolist() == (table["p (Holm)"] <= 0.05).tolist()
    words = {name.split(",")[0].split()[0]: verdict for name, verdict in table["verdict"].items()}
    assert words["pooling"] == "worse"


def test_one_seed_at_a_time(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs, summary = tables
    single = single_seed_verdicts(runs, summary, _reference(summary), resamples=300)
    assert len(single) == 2 + 2 + 1  # pooling has one seed
    for _, row in single.iterrows():
        method = row["setting"].split(",")[0].split()[0]
        figures = runs[runs["seed"] == row["seed"]].set_index("method")["t2v/R@1"]
        assert row["difference"] == pytest.approx(figures[method] - figures["baseline"])


def test_winners_are_of_the_seeds_that_all_have(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs, summary = tables
    assert list(winners_by_seed(runs, summary)) == [0]
    several = summary[summary["method"] != "pooling"]
    assert {name.split()[0] for name in winners_by_seed(runs, several).values()} == {"spectral"}


def test_the_sentences_count_what_single_seeds_claim() -> None:
    together = pd.DataFrame({"setting": ["a", "b"], "verdict": ["cannot be told", "better"], "difference": [0.1, 3.0]})
    single = pd.DataFrame(
        {
            "setting": ["a", "a", "b", "b"],
            "seed": [0, 1, 0, 1],
            "difference": [4.0, -1.0, 3.0, 3.0],
            "verdict": ["better", "cannot be told", "better", "worse"],
        }
    )
    text = one_seed_in_words(together, single, {0: "a", 1: "b"})
    assert text[0].startswith("1 of 4 comparisons with one seed claim")
    assert "1 claim the opposite" in text[0]
    assert text[1] == "The sign of the difference depends on the seed in 1 of 2 settings: a."
    assert text[2] == "The best setting depends on the seed (seed 0: a, seed 1: b)."
    assert len(one_seed_in_words(together, single[:0], {})) == 1
