from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from centerclip_pl.errors import DataError
from centerclip_pl.plots import heat_map
from centerclip_pl.plots.style import contrast


def _texts(figure: Figure) -> dict[tuple[int, int], str]:
    axes = figure.axes[0]
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}


def test_cells_are_the_tables_values_and_pairs_not_run_are_blank(grid: pd.DataFrame) -> None:
    figure = heat_map(grid.sample(frac=1, random_state=0), "t2v/R@1", reference=("baseline", 57.0))
    axes = figure.axes[0]
    cells = axes.images[0].get_array()
    expected = np.array([[53.6, np.nan, 56.8], [55.6, 57.2, 58.8]])  # 2 and 4 segments by 16, 32, 48
    np.testing.assert_allclose(np.ma.filled(cells, np.nan), expected)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["16", "32", "48"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["2", "4"]
    assert axes.get_ylim()[0] < axes.get_ylim()[1]  # few segments at the bottom
    texts = _texts(figure)
    assert texts[0, 0] == "53.6 ± 1.5"
    assert texts[0, 1] == "not run"
    assert texts[1, 2] == "58.8 ± 1.5"
    (frame,) = (patch for patch in axes.patches if patch.get_gid() == "best")
    assert isinstance(frame, Rectangle)
    assert frame.get_center() == pytest.approx((2, 1))
    (mark,) = figure.axes[1].lines[-1:]
    assert list(mark.get_ydata()) == [57.0, 57.0]


def test_texts_stand_out_from_their_cells(grid: pd.DataFrame) -> None:
    figure = heat_map(grid)
    image = figure.axes[0].images[0]
    for (row, column), text in _texts(figure).items():
        if text != "not run":
            (drawn,) = (t for t in figure.axes[0].texts if t.get_position() == (column, row))
            cell = image.cmap(image.norm(image.get_array()[row, column]))
            assert contrast(drawn.get_color(), cell) >= 4.5


def test_one_seed_has_no_spread_and_costs_frame_the_lowest(make_summary: Callable[..., pd.DataFrame]) -> None:
    one = {"n_seeds": 1, "t2v/R@1 std": np.nan}
    figure = heat_map(make_summary([{"clusters": 16.0, **one}, {"clusters": 48.0, "gmacs": 0.4, **one}]))
    assert set(_texts(figure).values()) == {"60.0"}
    assert "one seed" in figure.get_supxlabel()
    cost = heat_map(make_summary([{"clusters": 16.0}, {"clusters": 48.0, "gmacs": 0.4}]), "gmacs")
    assert set(_texts(cost).values()) == {"0.3", "0.4"}
    (frame,) = (patch for patch in cost.axes[0].patches if patch.get_gid() == "best")
    assert frame.get_x() + frame.get_width() / 2 == pytest.approx(0)


def test_what_cannot_be_a_map_is_said(grid: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"2 settings have segments 2 and clusters 16; they differ in method \(kmed"):
        heat_map(pd.concat([grid, grid[:1].assign(method="spectral")]))
    with pytest.raises(DataError, match=r"different clusters, all have 16\n.*make sweep SWEEP=segments"):
        heat_map(grid[:1])
    with pytest.raises(DataError, match="needs runs that have both"):
        heat_map(grid[grid["method"] == "baseline"])
    with pytest.raises(DataError, match=r"no run has a value of t2v/R@1"):
        heat_map(grid.assign(**{"t2v/R@1": np.nan}))
