from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from centerclip_pl.errors import DataError
from centerclip_pl.plots import front, pareto

NUMBERS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@settings(deadline=None)
@given(NUMBERS, st.booleans())
def test_front_is_what_nothing_beats(points: list[tuple[int, int]], more: bool) -> None:
    expected = []
    for i, (cost, value) in enumerate(points):
        beaten = False
        for c, v in points:
            as_good = v >= value if more else v <= value
            better = v > value if more else v < value
            if (c < cost and as_good) or (c <= cost and better):
                beaten = True
        if not beaten:
            expected.append(i)
    cost, value = np.array(points, dtype=float).T
    found = front(cost, value, more_is_better=more)
    assert sorted(found) == expected
    assert (np.diff(cost[found]) >= 0).all()


def test_points_without_numbers_are_on_no_front() -> None:
    assert list(front(np.array([1.0, np.nan, 2.0]), np.array([1.0, 9.0, np.nan]))) == [0]


def _labels(axes: Axes) -> list[Text]:
    return [text for text in axes.texts if text.get_gid() == "label"]


def test_points_bars_and_front_are_the_tables(grid: pd.DataFrame) -> None:
    figure = pareto(grid)
    axes = figure.axes[0]
    drawn = {line.get_label(): line for line in axes.lines}
    kmedoids = grid[grid["method"] == "kmedoids"]
    np.testing.assert_allclose(drawn["kmedoids"].get_xdata(), kmedoids["gmacs"])
    np.testing.assert_allclose(drawn["kmedoids"].get_ydata(), kmedoids["t2v/R@1"])
    np.testing.assert_allclose(drawn["baseline"].get_ydata(), [57.0])
    steps = np.stack([drawn["front"].get_xdata(), drawn["front"].get_ydata()], axis=1)
    assert (np.diff(steps, axis=0) >= 0).all()
    assert steps[0] == pytest.approx((0.232, 53.6))
    assert steps[-1] == pytest.approx((0.392, 58.8))
    bars = [part for part in axes.collections if isinstance(part, LineCollection)]
    ends = np.concatenate([np.stack(part.get_segments()) for part in bars])
    assert len(ends) == len(grid)
    known = grid.set_index("gmacs")
    for (x, low), (_, high) in ends:
        row = known.loc[min(known.index, key=lambda gmacs: abs(gmacs - x))]
        # Intervals of the fixture are 55 to 66 for all; a mean outside of its interval has a bar on one side.
        assert low == pytest.approx(min(55.0, row["t2v/R@1"]))
        assert high == pytest.approx(66.0)
    assert "text to video R@1 (%)" in axes.get_ylabel()
    assert axes.get_xlabel() == "GMACs a video"
    assert "bars: 95\N{NO-BREAK SPACE}% interval over queries" in figure.get_supxlabel().replace("\n", " ")


def test_no_interval_is_drawn_that_was_not_computed(grid: pd.DataFrame) -> None:
    figure = pareto(grid.assign(**{"t2v/R@1 low": np.nan}))
    assert not [part for part in figure.axes[0].collections if isinstance(part, LineCollection)]
    assert "interval" not in figure.get_supxlabel()


def _boxes(figure: Figure) -> dict[str, np.ndarray]:
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    return {t.get_text(): Text.get_window_extent(t, renderer).extents for t in _labels(figure.axes[0])}


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_labels_cover_neither_each_other_nor_points_nor_leave_the_axes(
    make_summary: Callable[..., pd.DataFrame], width: float
) -> None:
    random = np.random.default_rng(0)
    rows = []
    for segments in (1.0, 2.0, 4.0, 8.0):
        for clusters in (8.0, 16.0, 32.0, 48.0):
            recall = 60 + random.random()
            row = {"segments": segments, "clusters": clusters, "gmacs": 0.3 + 0.02 * random.random(), "t2v/R@1": recall}
            rows.append(row | {"t2v/R@1 low": recall - 1, "t2v/R@1 high": recall + 1})
    figure = pareto(make_summary(rows), width=width)
    axes, boxes = figure.axes[0], _boxes(figure)
    assert len(boxes) >= (8 if width > 5 else 3)
    for one, other in combinations(boxes, 2):
        assert not _overlap(boxes[one], boxes[other]), (one, other)
    inside = axes.get_window_extent().extents
    points = axes.transData.transform([(row["gmacs"], row["t2v/R@1"]) for row in rows])
    for label, box in boxes.items():
        assert (box[:2] >= inside[:2]).all(), label
        assert (box[2:] <= inside[2:]).all(), label
        assert not any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points), label
    missing = 16 - len(boxes)
    assert (f"no room for {missing} label" in figure.get_supxlabel().replace("\n", " ")) == bool(missing)


def test_small_print_stays_below_the_axes(grid: pd.DataFrame) -> None:
    for width in (3.4, 7.0):
        figure = pareto(grid, width=width)
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        note = figure._supxlabel.get_window_extent(renderer)  # type: ignore[attr-defined]
        label = figure.axes[0].xaxis.label.get_window_extent(renderer)
        assert note.y1 <= label.y0
        assert note.y0 >= 0


def test_times_of_different_devices_are_refused(grid: pd.DataFrame) -> None:
    mixed = grid.assign(device=["cpu"] * 5 + ["cuda"])
    with pytest.raises(DataError, match=r"cannot be compared: cpu, cuda\n.*draw gmacs"):
        pareto(mixed, "encode_ms")
    assert pareto(mixed, "gmacs").axes
    assert pareto(grid, "encode_ms").axes[0].get_xlabel() == "encoding time (ms a video), cpu"


def test_tables_without_costs_are_refused(grid: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"needs runs that have both"):
        pareto(grid.assign(gmacs=np.nan))
    with pytest.raises(DataError, match=r"needs the column clustering_ms"):
        pareto(grid, "clustering_ms")


def test_transductive_figures_are_called_so(grid: pd.DataFrame) -> None:
    name = "dual_softmax/t2v/R@1"
    figure = pareto(grid.assign(**{name: grid["t2v/R@1"]}), value=name)
    assert "transductive" in figure.axes[0].get_ylabel()
    assert "transductive" in figure.get_supxlabel()
