from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps.engine import engine
from centerclip_pl.sweeps.search import grid_parameters, grid_size, next_parameters, to_stop, values_to_check
from centerclip_pl.sweeps.sweep_file import Sweep
from centerclip_pl.sweeps.trials import SweepFolder, Trial

GRID = {"a": {"values": [1, 2, 3]}, "b": {"values": ["x", None]}, "c": {"value": 5}, "d": {"min": 1, "max": 2}}


def walk(sweep: Sweep, folder: Path, runs: int, value: Any = lambda parameters: 1.0, seed: int = 0) -> list[Trial]:
    """Trials as a sweep would have them that ran one at a time, read back from the disk for each."""
    there = SweepFolder(folder)
    there.claim(sweep)
    for _ in range(runs):
        trials = there.trials()
        parameters = next_parameters(sweep, trials, seed)
        if parameters is None:
            break
        trial = there.add(len(trials), parameters)
        (trial.folder / "metrics.csv").write_text(f"val/t2v/R@1\n{value(parameters)}\n")
        trial.saved(state="finished")
    return there.trials()


def test_a_grid_has_every_combination_once_and_ends(make_sweep: Any, tmp_path: Path) -> None:
    sweep = make_sweep(GRID)
    trials = walk(sweep, tmp_path / "runs", runs=20)
    found = [tuple(trial.parameters[name] for name in "abcd") for trial in trials]
    assert grid_size(sweep) == 12 == len(found)
    assert set(found) == set(itertools.product([1, 2, 3], ["x", None], [5], [1, 2]))
    assert grid_parameters(sweep) == [trial.parameters for trial in trials]
    assert values_to_check(sweep) == grid_parameters(sweep)


def test_a_grid_goes_on_where_trials_are_missing(make_sweep: Any, tmp_path: Path) -> None:
    sweep = make_sweep(GRID)
    trials = walk(sweep, tmp_path / "runs", runs=20)
    left = [trial for trial in trials if trial.index not in (3, 8)]
    assert next_parameters(sweep, left) == trials[3].parameters


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_random_proposals_follow_from_the_seed_and_the_trials(make_sweep: Any, tmp_path: Path, method: str) -> None:
    parameters = {"a": {"min": 0.0, "max": 1.0}, "b": {"values": [1, 2, 3, 4]}, "c": {"min": 1, "max": 1000}}
    sweep = make_sweep(parameters, method=method)
    assert grid_size(sweep) is None
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    runs = [walk(sweep, tmp_path / name, 5, lambda p: p["a"], seed) for name, seed in (("1", 0), ("2", 0), ("3", 1))]
    values = [[trial.parameters for trial in trials] for trials in runs]
    assert values[0] == values[1] != values[2]
    assert len({p["c"] for p in values[0]}) > 3
    assert all(0 <= p["a"] <= 1 and p["b"] in (1, 2, 3, 4) and isinstance(p["c"], int) for p in values[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_bayes_learns_where_the_metric_is_high(make_sweep: Any, tmp_path: Path) -> None:
    sweep = make_sweep({"a": {"min": 0.0, "max": 1.0}}, method="bayes")
    trials = walk(sweep, tmp_path / "runs", 14, lambda parameters: -((parameters["a"] - 0.8) ** 2))
    late = [trial.parameters["a"] for trial in trials[-5:]]
    assert np.median(np.abs(np.array(late) - 0.8)) < 0.15  # 0.3 for draws from the whole range


def test_hyperband_stops_the_worst_of_those_that_run(make_sweep: Any, tmp_path: Path) -> None:
    band = {"type": "hyperband", "min_iter": 2, "eta": 2}
    sweep = make_sweep({"a": {"values": [1, 2, 3, 4]}}, early_terminate=band)
    folder = SweepFolder(tmp_path / "runs")
    folder.claim(sweep)
    for index, rate in enumerate((4, 3, 2, 1)):
        trial = folder.add(index, {"a": rate})
        rows = [str(rate * (epoch + 1)) for epoch in range(3)]
        (trial.folder / "metrics.csv").write_text("\n".join(["val/t2v/R@1", *rows]) + "\n")
        trial.saved(state="running")
    assert {trial.parameters["a"] for trial in to_stop(sweep, folder.trials())} == {1}
    assert to_stop(make_sweep({"a": {"values": [1, 2]}}), folder.trials()) == []


def test_what_is_checked_of_ranges_are_their_ends(make_sweep: Any) -> None:
    sweep = make_sweep(
        {
            "rate": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-3},
            "b": {"values": [1, 2]},
            "dataset": {"value": "demo"},
        },
        method="random",
    )
    first = {"rate": 1e-5, "b": 1, "dataset": "demo"}
    checked = values_to_check(sweep)
    assert checked[0] == first
    assert sorted(checked[1:], key=str) == sorted([{**first, "rate": 1e-3}, {**first, "b": 2}], key=str)


def test_of_a_large_grid_each_value_is_checked_once(make_sweep: Any) -> None:
    sweep = make_sweep({name: {"values": list(range(10))} for name in "abc"})
    checked = values_to_check(sweep)
    assert grid_size(sweep) == 1000
    assert len(checked) == 28
    assert all({p[name] for p in checked} == set(range(10)) for name in "abc")


def test_a_search_that_cannot_go_on_says_so(make_sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("the parameters are odd")

    monkeypatch.setattr(engine(), "next_run", refuse)
    with pytest.raises(ConfigError, match="the search of small cannot go on: the parameters are odd"):
        next_parameters(make_sweep(GRID), [])
