from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import DataError
from centerclip_pl.plots.answers import (
    best_in_words,
    best_place,
    blocks_in_words,
    budget_in_words,
    cheapest_as_good,
    cheapest_in_words,
    effect_in_words,
    figure_in_words,
    front_in_words,
)
from centerclip_pl.runs import read_runs
from centerclip_pl.statistics import compare, summarise


def test_the_best_is_the_highest_recall_the_lowest_rank_and_of_equals_the_cheapest(grid: pd.DataFrame) -> None:
    assert best_place(grid, "t2v/R@1") == 4
    assert best_place(grid.assign(**{"t2v/MnR": [3, 2, 4, 5, 6, 7]}), "t2v/MnR") == 1
    assert best_place(grid.assign(**{"t2v/R@1": 50.0}), "t2v/R@1") == 0
    with pytest.raises(DataError, match="no run has a value"):
        best_place(grid.assign(**{"t2v/R@1": np.nan}), "t2v/R@1")


def test_the_best_in_words(grid: pd.DataFrame) -> None:
    text = best_in_words(grid)
    assert "of 6 settings: **kmedoids 4×48, block 2**, 58.8 ± 1.5 (3 seeds; 95\N{NO-BREAK SPACE}% interval" in text
    assert "leads kmedoids 4×32, block 2 by 1.6" in text
    close = [58.8 if place == 4 else 58.79 if place == 0 else 50.0 for place in range(6)]
    assert "by less than 0.05." in best_in_words(grid.assign(**{"t2v/R@1": close}))
    equal = [58.8 if place in (0, 4) else 50.0 for place in range(6)]
    text = best_in_words(grid.assign(**{"t2v/R@1": equal}))
    assert "has the same." in text
    assert "leads" not in text
    one = grid.assign(**{"n_seeds": 1, "t2v/R@1 std": np.nan, "t2v/R@1 low": np.nan})
    assert figure_in_words(one, 0, "t2v/R@1") == "53.6 (one seed)"


def test_effects_are_means_over_steps_of_one_option(grid: pd.DataFrame) -> None:
    text = effect_in_words(grid, "clusters", "segments")
    # 2 segments: 16 to 48, +3.2; 4 segments: 16 to 32, 32 to 48, +1.6 each. Costs: 232 to 296, 264 to 328 to 392.
    assert "+2.1 on average" in text
    percent = 100 * np.mean([296 / 232, 328 / 264, 392 / 328]) - 100
    assert f"for +{percent:.0f} % GMACs" in text
    assert "better in 3 of 3 steps" in text
    assert effect_in_words(grid[:1], "clusters", "segments") == "No two settings differ in clusters alone."


def test_settings_with_as_many_tokens(make_summary: Callable[..., pd.DataFrame], grid: pd.DataFrame) -> None:
    same = make_summary([{"segments": 2.0, "clusters": 32.0}, {"clusters": 16.0, "t2v/R@1": 61.0}])
    assert budget_in_words(same) == ["With 64 tokens of a video in all, text to video R@1: 4×16 61.0, 2×32 60.0."]
    assert budget_in_words(grid) == ["No two settings keep the same number of tokens in all."]


def test_the_front_in_words(grid: pd.DataFrame) -> None:
    text = front_in_words(grid)
    assert "no other setting beats: kmedoids 2×16, block 2 (53.6 at 0.232)" in text
    assert "The baseline (57.0 at 0.5) is not among them." in text


def test_blocks_in_words(make_summary: Callable[..., pd.DataFrame]) -> None:
    line = make_summary([{"after_block": b, "t2v/R@1": 60 + b, "gmacs": b / 10} for b in (4.0, 2.0)])
    text = blocks_in_words(line)
    assert text.startswith("Best after block 4: 64.0 ± 1.5")
    assert "cheapest after block 2: 0.2 GMACs a video (−50 %) with 62.0 (−2.0)." in text


def test_the_cheapest_that_cannot_be_told_apart(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    skills: dict[int, tuple[float, float]] = {8: (0.2, 0.1), 16: (0.690, 0.2), 32: (0.695, 0.3), 48: (0.7, 0.4)}
    for clusters, (skill, gmacs) in skills.items():
        write_run(tmp_path / str(clusters), clusters=clusters, skill=skill, gmacs=gmacs)
    runs = read_runs(tmp_path)
    summary = summarise(runs, resamples=200)
    found = cheapest_as_good(runs, summary, resamples=500)
    assert found is not None
    # By hand: every cheaper one against the best, from cheap to expensive.
    best = runs[runs["t2v/R@1"] == runs["t2v/R@1"].max()]
    cheaper: list[Any] = []
    for clusters in skills:
        other = runs[runs["clusters"] == clusters]
        if other["gmacs"].item() < best["gmacs"].item():
            cheaper.append((clusters, compare(best, other, resamples=500).verdict != "A is better"))
    assert summary["clusters"].iloc[found[0]] == next(clusters for clusters, same in cheaper if same)
    assert not cheaper[0][1]
    assert "is not the same as equal" in cheapest_in_words(runs, summary, resamples=500)


def test_without_ranks_nothing_is_called_as_good(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    for clusters in (16, 48):
        write_run(tmp_path / str(clusters), clusters=clusters, skill=0.5 + clusters / 200, ranks=False)
    runs = read_runs(tmp_path)
    assert "No cheaper setting was found" in cheapest_in_words(runs, summarise(runs, resamples=100))
