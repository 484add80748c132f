from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.data.captions import caption_table, hold_out, video_list, without_videos
from centerclip_pl.errors import ConfigError, DataError


def row(video_id: str = "a", caption: str = "words", **more: Any) -> dict[str, Any]:
    return {"video_id": video_id, "path": f"{video_id}.mp4", "caption": caption, **more}


def test_columns_and_types() -> None:
    table = caption_table([row("a", " one ", tag="x", start="1.5"), row("b", "two", tag="", start="")], "f.csv")
    assert list(table.columns) == ["video_id", "path", "caption", "start", "end", "tag"]
    assert table["caption"].tolist() == ["one", "two"]
    assert table["start"].tolist()[0] == 1.5
    assert math.isnan(table["start"].tolist()[1])
    assert table["end"].isna().all()
    assert table[["start", "end"]].dtypes.tolist() == ["float64", "float64"]


def test_several_captions_of_one_video() -> None:
    table = caption_table([row("b", "1"), row("a", "2"), row("b", "3")], "f")
    assert video_list(table)["video_id"].tolist() == ["b", "a"]
    assert without_videos(table, {"b"})[["video_id", "caption"]].values.tolist() == [["a", "2"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "f.csv has no captions"),
        ([{"video_id": "a", "caption": "x"}], "no column path; it has video_id, caption"),
        ([row(), row("b", "  ")], "f.csv, row 2: empty caption"),
        ([row(), row("b", None)], "f.csv, row 2: empty caption"),
        ([row(), row("", "x")], "row 2: empty video_id"),
        ([row(), row("b"), row()], "row 3: the same caption again"),
        ([row(start="soon")], "row 1: start is not a number"),
        ([row(end=-1)], "row 1: end is negative"),
        ([row(start=2, end=2)], "row 1: end is not after start"),
        ([row(end=0)], "row 1: end is not after start"),
        ([row("a", "1", start=0), row("b"), row("a", "2", start=1)], "rows 1, 3: one video_id with several"),
        ([row("a", "1", start=0), row("a", "2")], "rows 1, 2: one video_id with several"),
        ([row(caption="") for _ in range(8)], "rows 1, 2, 3, 4, 5 and 3 more: empty caption"),
    ],
)
def test_what_makes_no_sense_is_refused_by_row(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError) as caught:
        caption_table(rows, "f.csv")
    assert message in caught.value.problem


def test_lines_are_named_where_they_are_known() -> None:
    with pytest.raises(DataError, match=r"f\.csv, line 17: empty caption"):
        caption_table([row(), row("b", "")], "f.csv", lines=[4, 17])


def test_published_repeats_are_kept() -> None:
    assert len(caption_table([row(), row()], "f", allow_repeats=True)) == 2


def table_of(ids: list[str]) -> pd.DataFrame:
    return caption_table([row(video_id, f"{k}") for video_id in ids for k in range(2)], "f")


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=2, max_size=40, unique=True), st.data())
def test_hold_out_parts_the_videos(ids: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(ids) - 1))
    train, val = hold_out(table_of(ids), count)
    assert set(train["video_id"]).isdisjoint(val["video_id"])
    assert set(train["video_id"]) | set(val["video_id"]) == set(ids)
    assert val["video_id"].nunique() == count
    assert len(val) == 2 * count  # with all captions
    shuffled, again = hold_out(table_of(ids[::-1]), count)
    assert set(again["video_id"]) == set(val["video_id"])
    assert train.index.tolist() == list(range(len(train)))
    assert len(shuffled) == len(train)


def test_hold_out_is_fixed_for_ever() -> None:
    """Other runs and machines must hold out the same videos: the first by sha256, as `sha256sum` gives it."""
    _, val = hold_out(table_of([f"video{k}" for k in range(10)]), 3)
    assert set(val["video_id"]) == {"video0", "video3", "video8"}


def test_a_share_is_held_out() -> None:
    ids = [f"v{k}" for k in range(50)]
    assert hold_out(table_of(ids), 0.1)[1]["video_id"].nunique() == 5
    assert hold_out(table_of(ids), 0.001)[1]["video_id"].nunique() == 1
    assert hold_out(table_of(ids), 3.0)[1]["video_id"].nunique() == 3


@pytest.mark.parametrize("videos", [0, -3, 1.5, -0.5])
def test_impossible_shares_are_refused(videos: float) -> None:
    with pytest.raises(ConfigError, match=f"val_videos={videos}"):
        hold_out(table_of(["a", "b"]), videos)


def test_something_must_be_left_to_train_on() -> None:
    with pytest.raises(DataError, match=r"would hold out all 2 .*\n.*--data\.val_videos=1"):
        hold_out(table_of(["a", "b"]), 2)


@pytest.mark.parametrize("option", ["val_videos", "test_videos"])
@pytest.mark.parametrize(("count", "videos"), [(1, 0.1), (1, 5), (2, 0.9), (2, 2), (3, 3), (40, 40), (40, 0.999)])
def test_the_number_that_is_advised_works(option: str, count: int, videos: float) -> None:
    table = table_of([f"video{k}" for k in range(count)])
    with pytest.raises(DataError) as caught:
        hold_out(table, videos, option)
    step = str(caught.value.next_step)
    advised = re.search(rf"--data\.{option}=(\d+)", step)
    rest = 2 if option == "test_videos" else 1  # test videos are held out first
    if advised:
        assert hold_out(table, int(advised[1]), option)[0]["video_id"].nunique() >= rest
    else:
        assert count <= rest
        assert f"at least {rest + 1} videos are needed" in step
    assert "column split" in step
