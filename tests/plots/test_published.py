from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from centerclip_pl.errors import DataError
from centerclip_pl.plots import against_published

TABLE = pd.DataFrame(
    {
        "name": ["meanP", "kmedoids", "spectral", "new"],
        "published": [43.1, 44.2, 43.6, np.nan],
        "ours": [np.nan, 43.54, 44.0, 45.0],
        "low": [np.nan, 42.0, np.nan, np.nan],
        "high": [np.nan, 45.0, np.nan, np.nan],
        "comparable": [False, True, False, True],
    }
)


def test_ours_stand_beside_the_published() -> None:
    axes = against_published(TABLE).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["published"].get_xdata(), TABLE["published"])
    assert list(lines["ours, comparable"].get_xdata()) == [43.54, 45.0]
    assert list(lines["ours, not comparable"].get_xdata()) == [44.0]
    assert lines["ours, not comparable"].get_markerfacecolor() == "white"
    # Differences of figures with one decimal, as published ones have.
    assert [text.get_text() for text in axes.texts] == ["not run", "\N{MINUS SIGN}0.7", "+0.4", "not published"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(TABLE["name"])
    assert axes.transData.transform((43, axes.get_yticks()[0]))[1] > axes.transData.transform((43, 0))[1]
    bars = [part for part in axes.collections if isinstance(part, LineCollection) and len(part.get_segments()) == 1]
    assert any(np.allclose(part.get_segments()[0], [[42, 2], [45, 2]]) for part in bars)


def test_a_table_without_runs_and_one_without_figures() -> None:
    axes = against_published(TABLE[["name", "published"]]).axes[0]
    assert {text.get_text() for text in axes.texts} == {"not run"}
    with pytest.raises(DataError, match=r"no published row has a figure of v2t/R@10"):
        against_published(TABLE.assign(published=np.nan), "v2t/R@10")
    with pytest.raises(DataError, match="needs the column published"):
        against_published(TABLE[["name"]])
