from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.report.caveats import caveats, marks, overlapping
from centerclip_pl.runs import read_runs
from centerclip_pl.statistics import summarise

WriteRun = Callable[..., Path]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> pd.DataFrame:
    """Two settings with two seeds each, a quarter of an hour from each other, of committed code."""
    folder = tmp_path_factory.mktemp("two")
    for number in range(4):
        created = (BEGIN + timedelta(minutes=15 * number)).isoformat()
        write_run(folder / str(number), segments=2 + 2 * (number // 2), seed=number % 2, queries=20, created=created)
    return read_runs(folder).assign(commit="0123456789abcdef")


def said(runs: pd.DataFrame) -> list[str]:
    runs = runs.reset_index(drop=True)
    summary = summarise(runs, resamples=100)
    return caveats(runs, summary, [f"setting {n}" for n in range(len(summary))])


def test_nothing_to_say(two: pd.DataFrame) -> None:
    assert said(two) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"selected_on": "test"}, "chose the checkpoint on the test split"),
        ({"selection": "last", "selected_on": None}, "tested the weights as training left them"),
        ({"missing_videos": 3}, "without 3 videos of the published split"),
        ({"broken_videos": 1}, "without 1 video of the published split"),
        ({"published_videos": 25}, "without 5 videos of the published split"),
        ({"protocol": "demo-20 (partial)"}, "tested a part of the split only"),
        ({"commit": "0123456789abcdef-dirty"}, "code that had been changed after its commit"),
    ],
)
def test_what_all_runs_have(two: pd.DataFrame, changes: dict[str, Any], expected: str) -> None:
    (text,) = said(two.assign(**changes))
    assert expected in text
    assert text.startswith("All 4 runs ")


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("selected_on", ["test", "val", "val", "val"], "were not all chosen in the same way"),
        ("device", ["cpu", "cpu", "NVIDIA H200", "NVIDIA H200"], "device NVIDIA H200 and cpu"),
        ("dtype", ["float32", "float32", "bfloat16", "bfloat16"], "dtype bfloat16 and float32"),
        ("commit", ["a" * 40, "b" * 40, "b" * 40, "b" * 40], "2 states of the code"),
        ("version", ["0.1", "0.2", "0.2", "0.2"], "2 versions of the package (0.1 and 0.2)"),
    ],
)
def test_what_differs(two: pd.DataFrame, column: str, values: list[str], expected: str) -> None:
    assert any(expected in text for text in said(two.assign(**{column: values})))


def test_one_seed(two: pd.DataFrame) -> None:
    (text,) = said(two.iloc[:3])
    assert text.startswith("setting 1 has one seed only.")
    (text,) = said(two.iloc[[0, 2]])
    assert text.startswith("Every setting has one seed only.")


def test_transductive_figures(two: pd.DataFrame) -> None:
    (text,) = said(two.assign(**{"dual_softmax/t2v/R@1": 80.0}))
    assert "transductive" in text


def test_notes_of_the_statistics_have_short_names(two: pd.DataFrame) -> None:
    again = pd.concat([two, two.iloc[:1].assign(run="again")], ignore_index=True)
    (text,) = [text for text in said(again) if "seed 0" in text]
    assert text.startswith("setting 0: seed 0: 2 runs of one setting")


def test_marks_of_a_run(two: pd.DataFrame) -> None:
    run = two.iloc[0]
    assert marks(run) == []
    bad = run.copy()
    bad[["selected_on", "protocol", "missing_videos"]] = ["test", "demo-200 (partial)", 2]
    assert marks(bad) == ["chosen on test", "partial test", "2 videos missing"]
    bad[["selected_on", "selection"]] = [None, "zero-shot"]
    assert marks(bad)[0] == "zero-shot"


def test_runs_at_the_same_time_are_counted() -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        begin, length = random.uniform(0, 500, 9), random.uniform(1, 60, 9)
        runs = pd.DataFrame(
            {
                "created": [(BEGIN + timedelta(seconds=each)).isoformat() for each in begin + length],
                "duration_s": length,
            }
        )
        expected = sum(
            any(i != j and begin[i] < begin[j] + length[j] and begin[j] < begin[i] + length[i] for j in range(9))
            for i in range(9)
        )
        assert overlapping(runs) == expected


def test_runs_beside_others_have_too_high_latencies(two: pd.DataFrame) -> None:
    (text,) = said(two.assign(created=two["created"].iloc[0]))
    assert "All 4 runs ran at the same time as another" in text


def test_times_that_were_measured_again_are_as_they_should_be(two: pd.DataFrame) -> None:
    at_once = two.assign(created="2026-11-21T15:00:00+00:00", duration_s=60.0, measured_again=None)
    assert overlapping(at_once) == len(two)
    assert overlapping(at_once.assign(measured_again=["2026-11-21T16:00:00+00:00", *[None] * (len(two) - 1)])) == 3
    assert overlapping(at_once.assign(measured_again="2026-11-21T16:00:00+00:00")) == 0


def test_times_that_are_not_known_do_not_overlap(two: pd.DataFrame) -> None:
    assert overlapping(two.assign(duration_s=np.nan)) == 0


def test_weights_that_were_not_trained_have_no_seed_to_miss(two: pd.DataFrame) -> None:
    once = two[two["seed"] == 0]
    assert any("one seed only" in each for each in said(once))
    assert not any("seed" in each for each in said(once.assign(selection="zero-shot", selected_on=None)))
