from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from centerclip_pl.errors import DataError
from centerclip_pl.training.predictions import EmbeddingWriter, read_embeddings

SEGMENTS, CHANNELS = 2, 3
# Captions by row, and the videos in order of first appearance, as datamodules have them.
OWNERS = ["b", "b", "a", "c", "c", "c"]
VIDEOS = ["b", "a", "c"]


class Data:
    """What the writer asks of a datamodule."""

    predict_split = "val"

    def captions(self, split: str) -> pd.DataFrame:
        assert split == "val"
        rows = [{"video_id": v, "path": f"clips/{v}.mp4", "caption": f"text {k}"} for k, v in enumerate(OWNERS)]
        return pd.DataFrame(rows)

    def videos(self, split: str) -> list[str]:
        assert split == "val"
        return list(VIDEOS)


def video(k: int) -> Tensor:
    return torch.arange(SEGMENTS * CHANNELS).float().view(SEGMENTS, CHANNELS) + 100 * k


def text(k: int) -> Tensor:
    return torch.arange(CHANNELS).float() - 10 * k


def batch(videos: list[int], texts: list[int], shift: float = 0.0) -> dict[str, Tensor]:
    """What ``predict_step`` gives; ``shift`` tells a repetition from the first."""
    return {
        "video_ids": torch.tensor(videos),
        "segments": torch.stack([video(k) + shift for k in videos]),
        "mask": torch.tensor([[True, k != 1] for k in videos]),
        "text_ids": torch.tensor(texts, dtype=torch.int64),
        "video_of_text": torch.tensor([VIDEOS.index(OWNERS[k]) for k in texts], dtype=torch.int64),
        "text": torch.stack([text(k) + shift for k in texts]) if texts else torch.zeros(0, CHANNELS),
    }


def write(folder: Path, *batches: dict[str, Tensor]) -> None:
    writer = EmbeddingWriter(folder)
    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=True, datamodule=Data())
    module: Any = None
    writer.on_predict_start(trainer, module)
    for number, prediction in enumerate(batches):
        writer.write_on_batch_end(trainer, module, prediction, None, None, number, 0)
    writer.on_predict_end(trainer, module)


def check(folder: Path) -> None:
    found = read_embeddings(folder)
    assert torch.equal(found.video.segments, torch.stack([video(k) for k in range(3)]))
    assert found.video.mask.tolist() == [[True, True], [True, False], [True, True]]
    assert found.video.mask.dtype == torch.bool
    assert torch.equal(found.text, torch.stack([text(k) for k in range(6)]))
    assert found.video_of_text.tolist() == [0, 0, 1, 2, 2, 2]
    assert found.video_of_text.dtype == torch.int64
    assert found.videos.to_dict("list") == {"video_id": VIDEOS, "path": [f"clips/{v}.mp4" for v in VIDEOS]}
    assert found.texts.to_dict("list") == {"video_id": OWNERS, "caption": [f"text {k}" for k in range(6)]}


WHOLE = batch([0, 1, 2], [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    "batches",
    [
        [WHOLE],
        [batch([2], [3, 4, 5]), batch([1, 0], [2, 0, 1])],
        [batch([2, 0], []), batch([1], [5, 2, 1, 0, 4, 3])],
        # A distributed sampler repeats some at the end: the first counts.
        [batch([1, 2], [2, 3, 4, 5]), batch([0, 1], [0, 1, 2], shift=0.0), batch([2, 1], [5, 2, 3], shift=0.5)],
    ],
    ids=["in order", "in another order", "texts apart from videos", "with repetitions"],
)
def test_round_trip(tmp_path: Path, batches: list[dict[str, Tensor]]) -> None:
    write(tmp_path / "predictions", *batches)
    check(tmp_path / "predictions")
    assert sorted(os.listdir(tmp_path / "predictions")) == ["embeddings.safetensors", "texts.parquet", "videos.parquet"]


def test_a_part_of_the_split(tmp_path: Path) -> None:
    """``--trainer.limit_predict_batches``: rows refer to each other within what was written."""
    write(tmp_path, batch([2, 1], [5, 2, 3]))
    found = read_embeddings(tmp_path)
    assert found.videos["video_id"].tolist() == ["a", "c"]
    assert found.texts["caption"].tolist() == ["text 2", "text 3", "text 5"]
    assert found.video_of_text.tolist() == [0, 1, 1]
    assert torch.equal(found.video.segments, torch.stack([video(1), video(2)]))


def test_without_captions(tmp_path: Path) -> None:
    write(tmp_path, batch([0, 1, 2], []))
    found = read_embeddings(tmp_path)
    assert found.text.shape == (0, CHANNELS)
    assert len(found.texts) == len(found.video_of_text) == 0
    assert len(found.videos) == 3


def test_writing_again_replaces(tmp_path: Path) -> None:
    write(tmp_path, batch([0], [0, 1]))
    write(tmp_path, WHOLE)
    check(tmp_path)


def test_a_failure_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, WHOLE)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, batch([0], [0, 1]))
    monkeypatch.undo()
    check(tmp_path)


def test_the_writer_can_be_used_again(tmp_path: Path) -> None:
    writer = EmbeddingWriter(tmp_path)
    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=True, datamodule=Data())
    module: Any = None
    for _ in range(2):
        writer.on_predict_start(trainer, module)
        writer.write_on_batch_end(trainer, module, WHOLE, None, None, 0, 0)
        writer.on_predict_end(trainer, module)
        check(tmp_path)


@pytest.mark.parametrize("name", ["embeddings.safetensors", "videos.parquet", "texts.parquet"])
@pytest.mark.parametrize("damage", ["absent", "empty", "cut off"])
def test_a_damaged_folder(tmp_path: Path, name: str, damage: str) -> None:
    write(tmp_path, WHOLE)
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{tmp_path}: no whole set of embeddings") as caught:
        read_embeddings(tmp_path)
    assert "centerclip predict" in str(caught.value.next_step)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no whole set of embeddings"):
        read_embeddings(tmp_path / "nowhere")


def test_files_of_different_runs(tmp_path: Path) -> None:
    write(tmp_path / "one", WHOLE)
    write(tmp_path / "two", batch([2, 1], [5, 2, 3]))
    os.replace(tmp_path / "two/videos.parquet", tmp_path / "one/videos.parquet")
    with pytest.raises(DataError, match="one: tables and embeddings are of different runs"):
        read_embeddings(tmp_path / "one")


def test_tensors_of_another_program(tmp_path: Path) -> None:
    write(tmp_path, WHOLE)
    tensors = load_file(tmp_path / "embeddings.safetensors")
    save_file({"text": tensors["text"], "mask": tensors["mask"]}, tmp_path / "embeddings.safetensors")
    with pytest.raises(DataError, match=r"embeddings.safetensors: has no segments, video_of_text"):
        read_embeddings(tmp_path)
