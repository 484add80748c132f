from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import DataError
from centerclip_pl.plots.tables import format_value, groups, interval, require, require_several, small_print


def test_bad_tables_are_refused_in_a_sentence(grid: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"a map needs the column v2t/R@1, which these runs lack"):
        require(grid, ["gmacs", "v2t/R@1"], "a map")
    with pytest.raises(DataError, match=r"there is none\n.*make sweep"):
        require(grid[:0], ["gmacs"], "a map")
    mixed = pd.concat([grid, grid.assign(protocol="demo-100")])
    with pytest.raises(DataError, match=r"different protocols: demo-100, demo-200\n.*split_protocols"):
        require(mixed, ["gmacs"], "a map")
    with pytest.raises(DataError, match=r"different after_block, all have 2\n.*SWEEP=block"):
        require_several(grid, "after_block", "a map")


def test_intervals_are_lengths_and_never_invented(make_summary: Callable[..., pd.DataFrame]) -> None:
    summary = make_summary(
        [{}, {"t2v/R@1 low": np.nan}, {"t2v/R@1 low": 60.5}]  # the mean need not lie within a percentile interval
    )
    np.testing.assert_array_equal(interval(summary, "t2v/R@1"), [[5, np.nan, 0], [6, np.nan, 6]])
    assert np.isnan(interval(summary, "v2t/R@1")).all()


def test_small_print_says_what_the_figure_rests_on(make_summary: Callable[..., pd.DataFrame]) -> None:
    text = small_print(make_summary([{}]), "t2v/R@1", bars="bars: x")
    assert text == "demo test, protocol demo-200; 200 queries; 3 seeds a setting; bars: x."
    single = make_summary([{"n_seeds": 1, "t2v/R@1 low": np.nan, "texts": 27763.0}])
    assert small_print(single, "t2v/R@1", bars="bars: x") == "demo test, protocol demo-200; 27,763 queries; one seed."
    assert "200 queries; one seed." in small_print(single, "v2t/R@1")
    assert "1 to 3 seeds a setting" in small_print(make_summary([{}, {"n_seeds": 1}]), "t2v/R@1")
    assert "transductive" in small_print(make_summary([{}]), "dual_softmax/t2v/R@1")


def test_groups_vary_in_nothing_else(grid: pd.DataFrame) -> None:
    other = grid[:2].assign(method="spectral")
    found = groups(pd.concat([other, grid], ignore_index=True), ("segments", "clusters"))
    assert [(name, len(part)) for name, part in found] == [
        *(("kmedoids, block 2", 5), ("spectral, block 2", 2), ("baseline", 1))
    ]
    assert groups(grid[:5], ("segments", "clusters"))[0][0] == ""


def test_numbers_have_the_digits_of_the_field() -> None:
    assert format_value("t2v/R@1", 43.06) == "43.1"
    assert format_value("gmacs", 0.3164) == "0.316"
    assert format_value("memory_mb", 2158.3) == "2,158"
