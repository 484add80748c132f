from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import DataError
from centerclip_pl.plots import over_blocks


@pytest.fixture
def blocks(make_summary: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    rows = [{"after_block": float(b), "t2v/R@1": 60.0 + b, "gmacs": 0.2 + 0.1 * b} for b in (3, 1, 2)]
    rows += [{"after_block": float(b), "clusters": 16.0, "t2v/R@1": 50.0 + b, "gmacs": 0.1 * b} for b in (1, 2)]
    none = {"after_block": None, "segments": None, "clusters": None}
    lone = {"method": "spectral"}
    return make_summary([*rows, lone, {"method": "baseline", "t2v/R@1": 64.0, "gmacs": 0.9, **none}])


def test_lines_are_settings_with_several_blocks(blocks: pd.DataFrame) -> None:
    figure = over_blocks(blocks)
    above, below = figure.axes
    lines = {line.get_label(): line for line in above.lines if not str(line.get_label()).startswith("_")}
    assert list(lines) == ["kmedoids 4×48", "kmedoids 4×16", "baseline"]  # spectral was run after one block alone
    np.testing.assert_allclose(lines["kmedoids 4×48"].get_ydata(), [61, 62, 63])
    np.testing.assert_allclose(lines["kmedoids 4×48"].get_xdata(), [1, 2, 3], atol=0.1)
    np.testing.assert_allclose(lines["kmedoids 4×16"].get_ydata(), [51, 52])
    assert set(lines["baseline"].get_ydata()) == {64.0}
    np.testing.assert_allclose(below.lines[0].get_ydata(), [0.3, 0.4, 0.5])
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["1", "2", "3"]
    assert above.get_ylabel() == "text to video R@1 (%)"
    assert below.get_ylabel() == "GMACs a video"


def test_without_costs_there_is_one_panel(blocks: pd.DataFrame) -> None:
    assert len(over_blocks(blocks.assign(gmacs=np.nan)).axes) == 1


def test_one_block_names_the_sweep(blocks: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"different after_block, all have 2\n.*make sweep SWEEP=block"):
        over_blocks(blocks[blocks["after_block"] == 2])
    unlike = blocks[(blocks["clusters"] == 16) & (blocks["after_block"] == 1) | (blocks["after_block"] == 3)]
    with pytest.raises(DataError, match=r"every other block has other options.*\n.*SWEEP=block"):
        over_blocks(unlike)
