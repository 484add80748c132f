from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import DataError
from centerclip_pl.statistics.queries import align

MakeRanks = Callable[..., pd.DataFrame]


def test_brings_runs_into_one_order(make_ranks: MakeRanks) -> None:
    first = make_ranks([1, 2, 3, 4, 5, 6], captions=2)
    second = make_ranks([10, 20, 30, 40, 50, 60], captions=2).sample(frac=1, random_state=3)
    found = align([first, second])
    assert found["t2v"].ranks.tolist() == [[1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 60]]
    assert found["t2v"].video.tolist() == [0, 0, 1, 1, 2, 2]
    assert found["t2v"].videos == found["v2t"].videos == 3
    assert found["v2t"].ranks.tolist() == [[1, 3, 5], [10, 30, 50]]
    assert found["t2v"].select([1]).ranks.tolist() == [[10, 20, 30, 40, 50, 60]]


def test_a_repeated_caption_is_matched_by_its_number(make_ranks: MakeRanks) -> None:
    first, second = make_ranks([1, 2, 3, 4], captions=2), make_ranks([5, 6, 7, 8], captions=2)
    for frame in (first, second):
        frame.loc[frame["video_id"] == "video000", "caption"] = "the same"
    assert align([first, second])["t2v"].ranks.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_an_empty_caption_is_one_like_others(make_ranks: MakeRanks) -> None:
    frame = make_ranks([1, 2])
    frame.loc[0, "caption"] = ""
    assert align([frame, frame])["t2v"].ranks.tolist() == [[1, 2], [1, 2]]


def test_different_queries_are_counted(make_ranks: MakeRanks) -> None:
    first, second = make_ranks([1, 2, 3]), make_ranks([1, 2, 3, 4])
    second.loc[1, "caption"] = "another"
    with pytest.raises(DataError, match=r"a and b were tested on different queries: 1 in the first alone, 3 in the "):
        align([first, second], ["a", "b"])
    # a repeat more is a query more
    twice = pd.concat([first, first.iloc[:1]])
    with pytest.raises(DataError, match="0 in the first alone, 1 in the second alone, 6 in both"):
        align([first, twice])


def test_no_ranks_are_an_error(make_ranks: MakeRanks) -> None:
    with pytest.raises(DataError, match="has no ranks"):
        align([make_ranks([1]).iloc[:0]])


def test_post_processed_ranks_are_families_of_their_own(make_ranks: MakeRanks) -> None:
    frame = make_ranks([4, 3, 2])
    processed = frame.assign(rank_dual_softmax=frame["rank"] - 1, rank_qb_norm=[2.0, 2, 2, np.nan, np.nan, np.nan])
    found = align([processed, processed])
    assert found["dual_softmax/t2v"].ranks.tolist() == [[3, 2, 1]] * 2
    assert found["dual_softmax/v2t"].ranks.tolist() == [[3, 2, 1]] * 2
    assert found["qb_norm/t2v"].ranks.tolist() == [[2, 2, 2]] * 2
    assert "qb_norm/v2t" not in found
    assert set(align([processed, frame])) == {"t2v", "v2t"}
