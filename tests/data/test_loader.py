from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from centerclip_pl.data import dataset as dataset_module
from centerclip_pl.data import loader as loader_module
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.dataset import VideoCaptionDataset
from centerclip_pl.data.loader import EpochSampler, VideoLoader, default_workers, video_loader
from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.errors import DataError, VideoError

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"v{k}.mp4", 12, size=(32, 32)) for k in range(7)]


@pytest.fixture
def make_loader(paths: list[Path], tokenizer_folder: str) -> Callable[..., VideoLoader]:
    def make(
        training: bool = True, workers: int = 1, timeout: float = 60, seed: int = 1, files: Any = None
    ) -> VideoLoader:
        rows = [
            {"video_id": f"v{k}", "path": str(path), "caption": f"w{k} w{c}"}
            for k, path in enumerate(files or paths)
            for c in range(3)
        ]
        dataset = VideoCaptionDataset(
            caption_table(rows, "test"),
            CaptionTokenizer(tokenizer_folder, 5),
            num_frames=3,
            image_size=16,
            training=training,
            seed=seed,
        )
        sampler = EpochSampler(dataset, 1, 0, seed) if training else None
        return video_loader(dataset, 2, num_workers=workers, timeout=timeout, pin_memory=False, sampler=sampler)

    return make


def epoch_of(loader: VideoLoader, epoch: int) -> list[Any]:
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.set_epoch(epoch)
    return list(loader)


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a
    )


def test_training_is_shuffled_and_repeatable_for_any_number_of_workers(
    make_loader: Callable[..., VideoLoader],
) -> None:
    loader = make_loader(workers=0)
    epochs = [epoch_of(loader, epoch) for epoch in range(3)]
    orders = [torch.cat([batch["video_ids"] for batch in batches]).tolist() for batches in epochs]
    assert [len(batches) for batches in epochs] == [3, 3, 3]  # 7 videos, full batches of 2
    assert all(len(set(order)) == 6 for order in orders)
    assert orders[0] != orders[1]
    with_workers = make_loader(workers=2)
    assert same(epoch_of(with_workers, 0), epochs[0])
    assert same(epoch_of(with_workers, 2), epochs[2])  # as a run does that resumes at epoch 2
    assert not same(epoch_of(make_loader(workers=0, seed=2), 0), epochs[0])


def test_evaluation_goes_through_all_videos_in_order(make_loader: Callable[..., VideoLoader]) -> None:
    batches = epoch_of(make_loader(training=False), 0)
    assert torch.cat([batch["video_ids"] for batch in batches]).tolist() == list(range(7))
    assert torch.cat([batch["text_ids"] for batch in batches]).tolist() == list(range(21))


def test_processes_share_an_epoch(make_loader: Callable[..., VideoLoader]) -> None:
    dataset = make_loader().dataset
    assert isinstance(dataset, VideoCaptionDataset)
    samplers = [EpochSampler(dataset, 2, rank, seed=1) for rank in range(2)]
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [3, 3]
    assert len({index for share in shares for index, _ in share}) == 6


def test_a_resumed_epoch_begins_behind_what_was_done(make_loader: Callable[..., VideoLoader]) -> None:
    whole = [epoch_of(make_loader(workers=0), epoch) for epoch in range(2)]
    for workers in (0, 2):
        loader = make_loader(workers=workers)
        assert isinstance(loader.sampler, EpochSampler)
        loader.sampler.batches_done = lambda: 2
        loader.load_state_dict(loader.state_dict())
        assert same(epoch_of(loader, 0), whole[0][2:])
        assert same(epoch_of(loader, 1), whole[1])  # this once only
        assert len(loader) == 3


def test_processes_resume_an_epoch_together(make_loader: Callable[..., VideoLoader]) -> None:
    dataset = make_loader().dataset
    assert isinstance(dataset, VideoCaptionDataset)
    for rank in range(2):
        sampler = EpochSampler(dataset, 2, rank, seed=1)
        whole = list(sampler)
        sampler.skip = 2
        assert list(sampler) == whole[2:]


@pytest.mark.parametrize("training", [True, False])
def test_an_epoch_that_was_left_early_may_take_its_time_to_finish(
    make_loader: Callable[..., VideoLoader], monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    read_frames = dataset_module.read_frames

    def slow(path: str, *args: Any) -> torch.Tensor:
        time.sleep(0.3)
        return read_frames(path, *args)

    monkeypatch.setattr(dataset_module, "read_frames", slow)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)  # a batch takes far longer
    loader = make_loader(training=training)
    loader.multiprocessing_context = "fork"
    first = next(iter(loader))  # the next batches are on their way
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.set_epoch(1)
    again = next(iter(loader))
    assert torch.equal(again["video_ids"], first["video_ids"]) == (not training)


def test_an_epoch_that_was_left_early_and_hangs_names_the_file(
    make_loader: Callable[..., VideoLoader], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_frames = dataset_module.read_frames

    def hang_on_one(path: str, *args: Any) -> torch.Tensor:
        if path == str(paths[2]):
            time.sleep(6)
        return read_frames(path, *args)

    monkeypatch.setattr(dataset_module, "read_frames", hang_on_one)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    loader = make_loader(training=False, timeout=1)
    loader.multiprocessing_context = "fork"
    next(iter(loader))
    with pytest.raises(VideoError) as caught:
        next(iter(loader))
    assert caught.value.path == str(paths[2])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_keeps_its_class_file_and_next_step(
    make_loader: Callable[..., VideoLoader], paths: list[Path], broken_videos: dict[str, Path], workers: int
) -> None:
    loader = make_loader(training=False, workers=workers, files=[*paths[:3], broken_videos["text"]])
    batches = iter(loader)
    next(batches)
    with pytest.raises(VideoError) as caught:
        next(batches)
    assert caught.value.path == str(broken_videos["text"])
    assert caught.value.reason == "is not a video"
    assert caught.value.next_step is not None


def test_a_decoder_that_hangs_ends_in_an_error_that_names_the_file(
    make_loader: Callable[..., VideoLoader], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_frames = dataset_module.read_frames

    def hang_on_one(path: str, *args: Any) -> torch.Tensor:
        if path == str(paths[4]):
            time.sleep(6)
        return read_frames(path, *args)

    monkeypatch.setattr(dataset_module, "read_frames", hang_on_one)  # workers are forked and inherit it
    loader = make_loader(training=False, timeout=2)
    loader.multiprocessing_context = "fork"
    with pytest.raises(VideoError) as caught:
        epoch_of(loader, 0)
    assert caught.value.path == str(paths[4])
    assert "no batch came within 2 s" in caught.value.reason
    assert "--data.loader_timeout" in str(caught.value.next_step)


def test_a_worker_that_dies_names_the_file(
    make_loader: Callable[..., VideoLoader], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: str, *args: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out

    monkeypatch.setattr(dataset_module, "read_frames", die)
    loader = make_loader(training=False)
    loader.multiprocessing_context = "fork"
    with pytest.raises(DataError, match="the process that decodes it died") as caught:
        epoch_of(loader, 0)
    assert str(paths[0]) in str(caught.value)


def test_other_errors_stay_what_they_are(
    make_loader: Callable[..., VideoLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, *args: Any) -> torch.Tensor:
        raise RuntimeError("a defect")

    monkeypatch.setattr(dataset_module, "read_frames", fail)
    with pytest.raises(RuntimeError, match=r"^a defect$"):
        epoch_of(make_loader(training=False, workers=0), 0)


def test_default_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, processes, expected in [(1, 1, 1), (2, 1, 1), (6, 1, 5), (64, 1, 8), (64, 8, 7), (4, 8, 1)]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)))
        assert default_workers(processes) == expected
