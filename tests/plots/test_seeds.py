from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from centerclip_pl.errors import DataError
from centerclip_pl.plots import differences, seed_spread


@pytest.fixture
def runs() -> pd.DataFrame:
    place = {"dataset": "demo", "split": "test", "protocol": "demo-200"}
    figures = {"a": 58, "b": 60, "c": 62, "d": 70}
    return pd.DataFrame([{"run": name, "t2v/R@1": value, **place} for name, value in figures.items()])


@pytest.fixture
def summary(make_summary: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    one = {"n_seeds": 1, "runs": ["d"], "t2v/R@1": 70.0, "t2v/R@1 std": np.nan, "t2v/R@1 low": np.nan}
    return make_summary([{"method": "spectral", **one}, {}])


def test_every_seed_is_a_dot_and_one_seed_says_so(summary: pd.DataFrame, runs: pd.DataFrame) -> None:
    axes = seed_spread(summary, runs).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    dots = set(zip(*lines["one seed each"].get_data(), strict=True))
    assert dots == {(58, 0), (60, 0), (62, 0), (70, 1)}  # the best at the top
    assert list(zip(*lines["mean over seeds"].get_data(), strict=True)) == [(60.0, 0)]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["kmedoids", "spectral (one seed)"]
    (bar,) = (part for part in axes.collections if isinstance(part, LineCollection))
    np.testing.assert_allclose(bar.get_segments(), [[[55, 0], [66, 0]]])  # none for the setting without one


def test_ranks_have_the_lowest_at_the_top(summary: pd.DataFrame, runs: pd.DataFrame) -> None:
    summary, runs = (table.rename(columns={"t2v/R@1": "t2v/MnR"}) for table in (summary, runs))
    axes = seed_spread(summary, runs, "t2v/MnR").axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["spectral (one seed)", "kmedoids"]


def test_runs_that_are_not_there(summary: pd.DataFrame, runs: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="d is summarised, but not among the runs"):
        seed_spread(summary, runs[:3])


def test_differences_with_and_without_intervals() -> None:
    figure = differences(
        ["x", "y", "z"], [2.0, 1.0, -3.0], [1.0, -1.0, np.nan], [3.0, 3.0, np.nan],
        reference="baseline", notes=["p = 0.01", "p = 0.5", "no p"], small="what they are",
    )  # fmt: skip
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["interval without 0"].get_xdata()) == [2.0]
    assert list(lines["cannot be told apart"].get_xdata()) == [1.0]
    assert lines["cannot be told apart"].get_markerfacecolor() == "white"
    assert list(lines["no interval"].get_xdata()) == [-3.0]
    (bars,) = (part for part in axes.collections if isinstance(part, LineCollection))
    np.testing.assert_allclose(bars.get_segments(), [[[1, 2], [3, 2]], [[-1, 1], [3, 1]]])
    assert [text.get_text() for text in axes.texts] == ["p = 0.01", "p = 0.5", "no p"]
    assert axes.get_xlabel() == "difference in text to video R@1 (points), right of 0 is better"
    assert "what they are" in figure.get_supxlabel()


def test_what_is_told_apart_may_follow_from_a_corrected_test() -> None:
    names, numbers = ["x", "y"], [2.0, 3.0]
    figure = differences(names, numbers, [1.0, 1.0], [3.0, 5.0], reference="baseline", told=[False, True])
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["told apart"].get_xdata()) == [3.0]
    assert list(lines["cannot be told apart"].get_xdata()) == [2.0]


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_legends_are_within_the_figure(summary: pd.DataFrame, runs: pd.DataFrame, width: float) -> None:
    figure = seed_spread(summary, runs, width=width)
    figure.draw_without_rendering()
    box = figure.axes[0].get_legend().get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    title = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    assert box.y1 <= title.y0 + 1


def test_nothing_to_compare() -> None:
    with pytest.raises(DataError, match=r"nothing to compare with baseline\n.*SWEEP=method"):
        differences([], [], [], [], reference="baseline")
