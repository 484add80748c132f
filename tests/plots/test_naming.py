from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from centerclip_pl.plots.naming import (
    in_short,
    more_is_better,
    named_with_common,
    setting_columns,
    setting_names,
    shown,
    title,
    varying,
)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("t2v/R@1", "text to video R@1 (%)"),
        ("v2t/MdR", "video to text median rank"),
        ("t2v_order/MnR", "text to video [order] mean rank"),
        ("dual_softmax/t2v/R@5", "text to video R@5 (%), dual softmax (transductive)"),
        ("qb_norm/v2t/R@1", "video to text R@1 (%), QB-Norm (transductive)"),
        ("gmacs", "GMACs a video"),
        ("encode_ms", "encoding time (ms a video)"),
    ],
)
def test_titles_say_direction_unit_and_transduction(column: str, words: str) -> None:
    assert title(column) == words


def test_what_is_better() -> None:
    assert more_is_better("dual_softmax/t2v/R@10")
    assert not more_is_better("t2v/MnR")
    assert not more_is_better("gmacs")
    assert in_short("t2v/R@1") == "text to video R@1"


def test_values_are_shown_as_typed() -> None:
    assert [shown(v) for v in (4.0, 0.001, None, float("nan"), pd.NA, True, "x")] == [
        *("4", "0.001", "none", "none", "none", "true", "x")
    ]


def test_names_are_made_of_what_varies(grid: pd.DataFrame) -> None:
    assert setting_names(grid) == [
        *("kmedoids 2×16, block 2", "kmedoids 2×48, block 2", "kmedoids 4×16, block 2"),
        *("kmedoids 4×32, block 2", "kmedoids 4×48, block 2", "baseline"),
    ]
    assert setting_names(grid[:5]) == ["2×16", "2×48", "4×16", "4×32", "4×48"]
    assert setting_names(grid[:1]) == ["kmedoids"]
    assert setting_names(grid, without=["method", "after_block"])[-1] == ""


def test_other_options_make_settings_and_found_figures_do_not(make_summary: Callable[..., pd.DataFrame]) -> None:
    rows = [{"model.optimizer.learning_rate": rate, "dual_softmax/t2v/R@1": rate} for rate in (1e-3, 5e-4)]
    summary = make_summary(rows)
    assert varying(summary) == ["model.optimizer.learning_rate"]
    assert setting_names(summary) == ["learning_rate 0.001", "learning_rate 0.0005"]
    assert not {"t2v/R@1 low", "dual_softmax/t2v/R@1", "gmacs", "device", "texts"} & set(setting_columns(summary))


def test_what_most_have_in_common_is_said_once(make_summary: Callable[..., pd.DataFrame]) -> None:
    summary = make_summary([{"clusters": 16.0}, {}, {"after_block": 3.0}, {"method": "pooling", "clusters": None}])
    names, common = named_with_common(summary)
    assert common == "block 2"
    assert names == ["kmedoids 4×16", "kmedoids 4×48", "kmedoids 4×48, block 3", "pooling, 4 segments"]
