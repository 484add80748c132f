"""Ranks and tables of runs made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

MakeRanks = Callable[..., pd.DataFrame]


def _make_ranks(t2v: Sequence[float], captions: int = 1, v2t: Sequence[float] | None = None) -> pd.DataFrame:
    """``captions`` queries a video in t2v; in v2t one (by default with the rank of the first caption)."""
    videos = [f"video{n:03d}" for n in range(len(t2v) // captions)]
    v2t = list(t2v)[::captions] if v2t is None else v2t
    return pd.DataFrame(
        {
            "direction": ["t2v"] * len(t2v) + ["v2t"] * len(videos),
            "video_id": [*np.repeat(videos, captions), *videos],
            "caption": [*(f"text {n}" for n in range(len(t2v))), *([None] * len(videos))],
            "rank": np.array([*t2v, *v2t], dtype=float),
        }
    ).astype({"caption": object})


@pytest.fixture(scope="session")
def make_ranks() -> MakeRanks:
    """``make_ranks([1, 3, 2.5, 1], captions=2)``: ranks of two videos in the form of ``ranks.parquet``."""
    return _make_ranks
