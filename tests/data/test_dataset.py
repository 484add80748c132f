from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.dataset import Failure, Loaded, Lost, VideoCaptionDataset
from centerclip_pl.data.frames import FileReader
from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.errors import VideoError
from centerclip_pl.types import Batch
from centerclip_pl.video.sampling import uniform_indices

MakeVideo = Callable[..., Path]
LENGTHS = {"a": 3, "b": 20, "c": 9}
CAPTIONS = {"a": ["w0"], "b": ["w1 w2", "w3", "w4"], "c": ["w5 w6 w7 w8 w9 w10", "w11"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, length in LENGTHS.items():
        make_video(folder / f"{name}.mp4", length, size=(40, 32), fps=4)
    return folder


@pytest.fixture
def make_dataset(folder: Path, tokenizer_folder: str) -> Callable[..., VideoCaptionDataset]:
    def make(num_frames: int = 6, **options: Any) -> VideoCaptionDataset:
        rows = [
            {"video_id": name, "path": str(folder / f"{name}.mp4"), "caption": caption}
            for name, captions in CAPTIONS.items()
            for caption in captions
        ]
        table = caption_table(rows, "test")
        tokenizer = CaptionTokenizer(tokenizer_folder, 5)
        sampling = options.pop("sampling", "random" if options.get("training") else "uniform")
        reader = FileReader(table, image_size=16)
        return VideoCaptionDataset(table, tokenizer, reader, num_frames=num_frames, sampling=sampling, **options)

    return make


def numbers(frames: torch.Tensor) -> list[int]:
    return (frames.float().mean(dim=(1, 2, 3)) / 4).round().int().tolist()  # frame k of make_video has grey level 4 k


def good(loaded: Loaded | Failure) -> Batch:
    assert isinstance(loaded, Loaded)
    assert loaded.batch is not None
    assert not loaded.lost
    return loaded.batch


def test_an_evaluation_batch_is_what_types_promises(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    dataset = make_dataset()
    assert len(dataset) == 3
    batch = good(dataset.collate(dataset.__getitems__([0, 1, 2])))
    assert set(batch) == set(Batch.__annotations__)
    assert batch["frames"].dtype == torch.uint8
    assert batch["frames"].shape == (3, 6, 3, 16, 16)
    assert [numbers(video) for video in batch["frames"]] == [
        [0, 1, 2, 2, 2, 2],
        uniform_indices(20, 6),
        uniform_indices(9, 6),
    ]
    assert batch["frame_mask"].dtype == torch.bool
    assert batch["frame_mask"].sum(dim=1).tolist() == [3, 6, 6]
    assert batch["frame_mask"][0].tolist() == [True] * 3 + [False] * 3
    assert batch["video_ids"].tolist() == [0, 1, 2]
    assert batch["text_ids"].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch["video_of_text"].tolist() == [0, 1, 1, 1, 2, 2]
    assert batch["input_ids"].tolist() == [
        [2, 4, 3, 1, 1],
        [2, 5, 6, 3, 1],
        [2, 7, 3, 1, 1],
        [2, 8, 3, 1, 1],
        [2, 9, 10, 11, 3],
        [2, 15, 3, 1, 1],
    ]
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 4, 3, 3, 5, 3]
    for name in ("video_ids", "text_ids", "video_of_text", "input_ids", "attention_mask"):
        assert batch[name].dtype == torch.int64  # type: ignore[literal-required]


def test_a_training_batch_has_one_caption_a_video(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    dataset = make_dataset(training=True)
    assert len(dataset) == 3
    seen: set[int] = set()
    for epoch in range(30):
        batch = good(dataset.collate(dataset.__getitems__([(2, epoch), (1, epoch)])))
        assert batch["video_ids"].tolist() == batch["video_of_text"].tolist() == [2, 1]
        assert batch["text_ids"][0] in (4, 5)
        assert batch["text_ids"][1] in (1, 2, 3)
        seen |= set(batch["text_ids"].tolist())
    assert seen == {1, 2, 3, 4, 5}  # all captions get their turn


def test_all_captions_expanded(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    dataset = make_dataset(training=True, captions="all")
    assert len(dataset) == 6
    batch = good(dataset.collate([dataset[(index, 0)] for index in range(6)]))
    assert batch["text_ids"].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch["video_ids"].tolist() == batch["video_of_text"].tolist() == [0, 1, 1, 1, 2, 2]


def test_training_frames_are_random_but_repeatable(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    dataset = make_dataset(training=True, seed=5)
    picks = {tuple(numbers(dataset[(1, epoch)].frames)) for epoch in range(12)}
    assert len(picks) > 3
    for pick in picks:
        assert [index // 3 for index in pick] == list(range(6))  # 20 // 6 = 3 frames a stretch
    again = make_dataset(training=True, seed=5)
    assert torch.equal(dataset[(1, 4)].frames, again[(1, 4)].frames)
    assert dataset[(1, 4)].text_ids == again[(1, 4)].text_ids
    other = make_dataset(training=True, seed=6)
    assert any(not torch.equal(dataset[(1, e)].frames, other[(1, e)].frames) for e in range(4))
    uniform = make_dataset(training=True, sampling="uniform")
    assert numbers(uniform[(1, 3)].frames) == uniform_indices(20, 6)


def test_a_bare_index_draws_from_torch(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    dataset = make_dataset(training=True)
    torch.manual_seed(3)
    first = [numbers(dataset[1].frames) for _ in range(4)]
    torch.manual_seed(3)
    assert [numbers(dataset[1].frames) for _ in range(4)] == first
    assert len({tuple(pick) for pick in first}) > 1


def test_time_spans(folder: Path, tokenizer_folder: str) -> None:
    rows = [
        {"video_id": f"b{start}", "path": str(folder / "b.mp4"), "caption": "w1", "start": start, "end": start + 1}
        for start in (0, 2)  # at 4 frames a second
    ]
    table = caption_table(rows, "test")
    dataset = VideoCaptionDataset(table, CaptionTokenizer(tokenizer_folder, 5), FileReader(table, 16), num_frames=4)
    assert [numbers(dataset[k].frames) for k in range(2)] == [[0, 1, 2, 3], [8, 9, 10, 11]]


def test_a_vanished_file_is_named(make_dataset: Callable[..., VideoCaptionDataset], tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset.reader.names[1] = str(tmp_path / "gone.mp4")
    with pytest.raises(VideoError, match=r"gone\.mp4: does not exist"):
        dataset[1]
    failure = dataset.collate(dataset.__getitems__([0, 1, 2]))
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, VideoError)
    assert failure.error.path == dataset.reader.names[1]


@pytest.fixture
def with_a_gap(make_dataset: Callable[..., VideoCaptionDataset], tmp_path: Path) -> Callable[..., VideoCaptionDataset]:
    """As ``make_dataset``; the file of the video in row 1 is gone."""

    def make(**options: Any) -> VideoCaptionDataset:
        dataset = make_dataset(**options)
        dataset.reader.names[1] = str(tmp_path / "gone.mp4")
        return dataset

    return make


def loaded(dataset: VideoCaptionDataset, keys: list[Any]) -> Loaded:
    found = dataset.collate(dataset.__getitems__(keys))
    assert isinstance(found, Loaded)
    return found


@pytest.mark.parametrize("policy", ["drop", "resample"])
def test_evaluation_leaves_a_bad_video_out_with_its_captions(
    with_a_gap: Callable[..., VideoCaptionDataset], policy: Any
) -> None:
    dataset = with_a_gap(on_bad_video=policy)
    found = loaded(dataset, [0, 1, 2])
    assert found.lost == [Lost(1, "does not exist")]
    assert found.batch is not None
    assert found.batch["video_ids"].tolist() == [0, 2]
    assert found.batch["text_ids"].tolist() == [0, 4, 5]
    assert found.batch["frames"].shape[0] == 2
    assert found.batch["frames"].float().mean(dim=(1, 2, 3, 4)).min() > 0  # no zeros in its place
    assert loaded(dataset, [1]) == Loaded(None, [Lost(1, "does not exist")])


def test_training_drops_a_bad_video_from_its_batch(with_a_gap: Callable[..., VideoCaptionDataset]) -> None:
    dataset = with_a_gap(training=True, on_bad_video="drop")
    found = loaded(dataset, [(0, 3), (1, 3), (2, 3)])
    assert found.lost == [Lost(1, "does not exist")]
    assert found.batch is not None
    assert found.batch["video_ids"].tolist() == found.batch["video_of_text"].tolist() == [0, 2]


def test_a_training_batch_of_which_nothing_is_left_gets_another_video(
    with_a_gap: Callable[..., VideoCaptionDataset],
) -> None:
    dataset = with_a_gap(training=True, on_bad_video="drop")
    drawn = set()
    for epoch in range(12):
        found = loaded(dataset, [(1, epoch), (1, epoch)])
        assert found.batch is not None
        assert len(found.batch["video_ids"]) == 1
        assert set(found.lost) == {Lost(1, "does not exist")}
        again = loaded(dataset, [(1, epoch), (1, epoch)]).batch
        assert again is not None
        assert torch.equal(again["frames"], found.batch["frames"])
        drawn |= set(found.batch["video_ids"].tolist())
    assert drawn == {0, 2}


@pytest.mark.parametrize("policy", ["drop", "resample"])
def test_training_with_nothing_to_take_instead_is_an_error(
    with_a_gap: Callable[..., VideoCaptionDataset], policy: Any
) -> None:
    dataset = with_a_gap(training=True, on_bad_video=policy, lost=dict.fromkeys(range(3), "is damaged"))
    failure = dataset.collate(dataset.__getitems__([(0, 0), (1, 0)]))
    assert isinstance(failure, Failure)
    assert "is damaged" in str(failure.error)


@pytest.mark.parametrize("captions", ["random", "all"])
def test_training_resamples_a_bad_video(with_a_gap: Callable[..., VideoCaptionDataset], captions: Any) -> None:
    dataset = with_a_gap(training=True, on_bad_video="resample", captions=captions)
    drawn: set[int] = set()
    for epoch in range(12):
        keys = [(index, epoch) for index in range(len(dataset))]
        found = loaded(dataset, keys)
        assert found.batch is not None
        assert len(found.batch["video_ids"]) == len(dataset)  # an epoch keeps its length
        assert 1 not in found.batch["video_ids"]
        assert {video for video, _ in found.lost} == {1}
        texts, videos = found.batch["text_ids"], found.batch["video_ids"]
        assert [dataset._video_of_text[text] for text in texts] == videos.tolist()
        again = loaded(dataset, keys).batch
        assert again is not None
        assert torch.equal(again["video_ids"], videos)  # the same in a run that resumes
        assert torch.equal(again["frames"], found.batch["frames"])
        drawn |= {int(videos[1])}
    assert drawn == {0, 2}


def test_resampling_ends_where_nothing_can_be_read(with_a_gap: Callable[..., VideoCaptionDataset]) -> None:
    dataset = with_a_gap(training=True, on_bad_video="resample")
    dataset.reader.names[:] = [dataset.reader.names[1]] * 3
    failure = dataset.collate(dataset.__getitems__([(0, 0), (1, 0)]))
    assert isinstance(failure, Failure)
    assert "none of 10 videos in a row can be read" in str(failure.error)


def test_a_video_known_to_be_bad_is_not_tried(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    dataset = make_dataset(on_bad_video="drop", lost={2: "was not decoded within 5 s"})
    found = loaded(dataset, [0, 1, 2])
    assert found.lost == [Lost(2, "was not decoded within 5 s")]
    assert found.batch is not None
    assert found.batch["video_ids"].tolist() == [0, 1]


def test_head_tail_and_the_order_of_frames(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    def taken(video: int, **options: Any) -> list[int]:
        item = make_dataset(**options)[video]
        assert item.frame_mask.tolist() == [k < min(6, [3, 20, 9][video]) for k in range(6)]
        return numbers(item.frames)

    assert taken(1, sampling="head") == [0, 1, 2, 3, 4, 5]
    assert taken(1, sampling="tail") == [14, 15, 16, 17, 18, 19]
    assert taken(0, sampling="tail") == [0, 1, 2, 2, 2, 2]
    assert taken(1, order="reverse") == uniform_indices(20, 6)[::-1]
    assert taken(0, order="reverse") == [2, 1, 0, 0, 0, 0]  # the last one taken is what is repeated
    shuffled = taken(1, order="shuffle")
    assert sorted(shuffled) == uniform_indices(20, 6)
    assert shuffled == taken(1, order="shuffle")  # evaluation is the same every time
    assert any(taken(1, order="shuffle", seed=seed) != uniform_indices(20, 6) for seed in range(3))
    orders = {
        tuple(taken_in)
        for taken_in in (
            numbers(make_dataset(training=True, sampling="uniform", order="shuffle")[(1, epoch)].frames)
            for epoch in range(5)
        )
    }
    assert len(orders) > 1


def test_frames_a_second(make_dataset: Callable[..., VideoCaptionDataset], folder: Path) -> None:
    dataset = make_dataset()
    assert isinstance(dataset.reader, FileReader)
    dataset.reader.fps = 1.0  # of 4
    assert numbers(dataset[1].frames) == [0, 4, 8, 12, 16, 16]
    assert dataset[1].frame_mask.tolist() == [True] * 5 + [False]


def test_it_is_picklable(make_dataset: Callable[..., VideoCaptionDataset]) -> None:
    dataset = make_dataset(training=True)
    dataset.tokenizer.load()
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again[(1, 2)].frames, dataset[(1, 2)].frames)
