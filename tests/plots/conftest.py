from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest


def setting(method: str = "kmedoids", **columns: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dataset": "demo",
        "split": "test",
        "protocol": "demo-200",
        "method": method,
        "backbone": "demo",
        "head": "meanP",
        "after_block": 2.0,
        "segments": 4.0,
        "clusters": 48.0,
        "epochs": 2,
        "selection": "best",
        "selected_on": "val",
        "n_seeds": 3,
        "seeds": [0, 1, 2],
        "runs": ["a", "b", "c"],
        "t2v/R@1": 60.0,
        "t2v/R@1 std": 1.5,
        "t2v/R@1 low": 55.0,
        "t2v/R@1 high": 66.0,
        "gmacs": 0.3,
        "encode_ms": 10.0,
        "memory_mb": 2000.0,
        "memory_kind": "process resident set",
        "device": "cpu",
        "videos": 200.0,
        "texts": 200.0,
    }
    return row | columns


@pytest.fixture
def make_summary() -> Callable[..., pd.DataFrame]:
    """``make_summary([{...}, ...])``: a row each, with what is said changed."""

    def make(rows: list[dict[str, Any]]) -> pd.DataFrame:
        summary = pd.DataFrame([setting(**row) for row in rows])
        summary.attrs["confidence"] = 0.95
        return summary

    return make


@pytest.fixture
def grid(make_summary: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Two segments by three clusters, one pair not run, and a baseline."""
    rows: list[dict[str, Any]] = [
        {"segments": s, "clusters": k, "t2v/R@1": 50 + s + k / 10, "gmacs": 0.2 + s * k / 1000}
        for s in (2.0, 4.0)
        for k in (16.0, 32.0, 48.0)
        if (s, k) != (2.0, 32.0)
    ]
    none = {"after_block": None, "segments": None, "clusters": None}
    return make_summary([*rows, {"method": "baseline", "t2v/R@1": 57.0, "gmacs": 0.5, **none}])


@pytest.fixture(autouse=True)
def no_figure_left_open() -> Iterator[None]:
    """Figures of this package are none of pyplot's."""
    from matplotlib import pyplot, rcParams

    before = dict(rcParams)
    yield
    assert pyplot.get_fignums() == []
    assert dict(rcParams) == before
