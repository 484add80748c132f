from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import DataError
from centerclip_pl.plots.recall_curve import recall_curve, recalls


def ranks(seed: int, queries: int = 40) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "direction": ["t2v"] * queries + ["v2t"] * queries,
            "rank": random.integers(1, 30, 2 * queries) + random.choice([0.0, 0.5], 2 * queries),
        }
    )


def test_recalls_are_shares() -> None:
    values = ranks(0)["rank"].to_numpy()
    found = recalls(values, np.arange(1, 41))
    expected = [100 * sum(rank <= k for rank in values) / len(values) for k in range(1, 41)]
    assert found == pytest.approx(expected)
    assert found[-1] == 100


def test_each_setting_has_a_line_of_means_and_one_for_each_seed() -> None:
    frames = {"ours": [ranks(0), ranks(1)], "baseline": [ranks(2)]}
    figure = recall_curve(frames, note="a note")
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == ["text to video", "video to text"]
    for panel, way in zip(panels, ("t2v", "v2t"), strict=True):
        lines = {str(line.get_label()): line for line in panel.get_lines()}
        assert {"ours", "baseline"} <= lines.keys()
        assert len(panel.get_lines()) == 2 + 2  # two seeds, two means
        ks, values = (np.asarray(data) for data in lines["ours"].get_data())
        for k, value in zip(ks, values, strict=True):
            by_hand = [100 * float((f.loc[f["direction"] == way, "rank"] <= k).mean()) for f in frames["ours"]]
            assert value == pytest.approx(sum(by_hand) / 2)
        assert lines["ours"].get_linestyle() != lines["baseline"].get_linestyle()
    assert panels[0].get_ylabel() == "R@k (%)"


def test_no_more_than_so_many() -> None:
    figure = recall_curve({"a": [ranks(0)]}, most=12)
    assert figure.axes[0].get_lines()[0].get_xdata()[-1] == 12


def test_without_ranks_there_is_nothing_to_draw() -> None:
    with pytest.raises(DataError, match="no ranks"):
        recall_curve({})
