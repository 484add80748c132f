from __future__ import annotations

from typing import Any

import pytest
import torch

from centerclip_pl.data import Custom
from centerclip_pl.data.query_bank import training_clips
from centerclip_pl.errors import DataError


@pytest.fixture
def make(corpus: Any, tokenizer_folder: str) -> Any:
    """``make(**options)``: the corpus, of which video ``train<k>`` is all grey of level ``10 + 12 k``."""

    def build(**options: Any) -> Custom:
        small = {"num_frames": 2, "max_words": 5, "image_size": 16, "eval_batch_size": 2, "num_workers": 0}
        return Custom(**(small | {"captions": str(corpus.captions), "tokenizer": tokenizer_folder} | options))

    return build


def test_each_video_comes_once_as_an_evaluation_sees_it(make: Any) -> None:
    data = make()
    batches = list(training_clips(data, ["train7.mp4", "train0.mp4", "train3.mp4"]))
    assert [len(batch["frames"]) for batch in batches] == [2, 1]
    frames = torch.cat([batch["frames"] for batch in batches])
    levels = frames.float().mean(dim=(1, 2, 3, 4))
    assert levels.tolist() == pytest.approx([10, 10 + 12 * 3, 10 + 12 * 7], abs=3)
    assert frames.shape == (3, 2, 3, 16, 16)
    assert torch.cat([batch["video_ids"] for batch in batches]).tolist() == [0, 1, 2]
    data.predict_split = "train"
    expected = torch.cat([batch["frames"] for batch in data.predict_dataloader()])[[0, 3, 7]]
    assert torch.equal(frames, expected)


def test_no_video_no_batch(make: Any) -> None:
    assert list(training_clips(make(), [])) == []


def test_bad_videos_are_treated_as_the_datamodule_says(make: Any, corpus: Any) -> None:
    (corpus.root / "train3.mp4").write_text("no longer a video")
    with pytest.raises(DataError, match=r"train3\.mp4"):
        training_clips(make(), ["train0.mp4"])
    batches = list(training_clips(make(on_bad_video="drop"), ["train0.mp4", "train3.mp4"]))
    assert sum(len(batch["frames"]) for batch in batches) == 1
    assert list(training_clips(make(on_bad_video="drop"), ["train3.mp4"])) == []
