from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from centerclip_pl.errors import DataError
from centerclip_pl.retrieval.metrics import RankTable, retrieval_metrics
from centerclip_pl.training.ranks_file import rank_frame, read_ranks, write_ranks

FRAME = pd.DataFrame(
    {
        "direction": ["t2v", "t2v", "v2t"],
        "video_id": ["a", "b", "a"],
        "caption": ["a dog", "é, a “cat”", None],
        "rank": [1.0, 2.5, 1.0],
    }
)
FRAME["caption"] = FRAME["caption"].astype(object).where(FRAME["caption"].notna(), None)


class Data:
    """Three videos, the last without texts; b has two texts."""

    def captions(self, split: str) -> pd.DataFrame:
        return pd.DataFrame({"video_id": ["a", "b", "b"], "caption": ["one", "two", "three"]})

    def videos(self, split: str) -> list[str]:
        return ["a", "b", "c"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_ranks(tmp_path / "run" / "ranks.parquet", FRAME)
    read = read_ranks(tmp_path / "run" / "ranks.parquet")
    assert read.to_dict("list") == FRAME.to_dict("list")
    assert read["rank"].dtype == np.float64
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["ranks.parquet"]


def test_a_frame_names_the_queries_and_leads_to_the_metrics() -> None:
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.4, 0.45], [0.0, 0.7, 0.1]])
    owners = torch.tensor([0, 1, 1])
    table = RankTable(
        text_ids=torch.arange(3),
        t2v=torch.tensor([1.0, 3.0, 1.0]).double(),
        video_ids=torch.tensor([0, 1]),
        v2t=torch.tensor([1.0, 1.0]).double(),
    )
    frame = rank_frame(table, Data())
    assert frame[["direction", "video_id", "caption"]].values.tolist() == [
        ["t2v", "a", "one"],
        ["t2v", "b", "two"],
        ["t2v", "b", "three"],
        ["v2t", "a", None],
        ["v2t", "b", None],
    ]
    metrics = retrieval_metrics(similarity, owners)
    for direction, ranks in frame.groupby("direction")["rank"]:
        assert 100 * np.mean(ranks <= 1) == pytest.approx(metrics[f"{direction}/R@1"])
        assert np.mean(ranks) == pytest.approx(metrics[f"{direction}/MnR"])


def test_a_frame_of_a_part_of_the_texts_keeps_their_names() -> None:
    table = RankTable(torch.tensor([0, 2]), torch.tensor([1.0, 2.0]), torch.tensor([1]), torch.tensor([1.0]))
    frame = rank_frame(table, Data())
    assert frame["caption"].tolist() == ["one", "three", None]
    assert frame["video_id"].tolist() == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "cannot be read"),
        (lambda path: FRAME.drop(columns="rank").to_parquet(path), "lacks the column rank"),
        (lambda path: FRAME.assign(rank=0.0).to_parquet(path), "not numbers from 1 on"),
        (lambda path: FRAME.assign(rank=np.nan).to_parquet(path), "not numbers from 1 on"),
        (lambda path: FRAME.assign(rank="first").to_parquet(path), "not numbers from 1 on"),
        (lambda path: FRAME.assign(direction="up").to_parquet(path), "other than t2v and v2t"),
    ],
)
def test_a_spoilt_file_is_one_clear_error(tmp_path: Path, spoil: Any, says: str) -> None:
    path = tmp_path / "ranks.parquet"
    write_ranks(path, FRAME)
    spoil(path)
    with pytest.raises(DataError, match=says) as error:
        read_ranks(path)
    assert "ranks.parquet" in str(error.value)
