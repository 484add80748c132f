from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from centerclip_pl.data import frames as frames_module
from centerclip_pl.data import loader as loader_module
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.dataset import VideoCaptionDataset
from centerclip_pl.data.frames import FileReader
from centerclip_pl.data.loader import VideoLoader, default_workers, video_loader
from centerclip_pl.data.sampler import EpochSampler
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
        training: bool = True,
        workers: int = 1,
        timeout: float = 60,
        seed: int = 1,
        files: Any = None,
        policy: Any = "error",
    ) -> VideoLoader:
        rows = [
            {"video_id": f"v{k}", "path": str(path), "caption": f"w{k} w{c}"}
            for k, path in enumerate(files or paths)
            for c in range(3)
        ]
        table = caption_table(rows, "test")
        dataset = VideoCaptionDataset(
            table,
            CaptionTokenizer(tokenizer_folder, 5),
            FileReader(table, image_size=16),
            num_frames=3,
            training=training,
            sampling="random" if training else "uniform",
            seed=seed,
            on_bad_video=policy,
        )
        sampler = EpochSampler(dataset, 1, 0, seed, 2) if training else None
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
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers] == [3, 3]
    assert len({index for share in shares for index, _ in share}) == 6


@pytest.mark.parametrize("epoch", [0, 3])
def test_a_global_batch_does_not_depend_on_the_number_of_processes(epoch: int) -> None:
    dataset: Any = range(37)

    def global_batches(processes: int, batch_size: int) -> list[list[tuple[int, int]]]:
        shares = []
        for rank in range(processes):
            sampler = EpochSampler(dataset, processes, rank, 5, batch_size)
            sampler.set_epoch(epoch)
            keys = list(sampler)
            shares.append([keys[k : k + batch_size] for k in range(0, len(keys), batch_size)])
        return [[key for part in parts for key in part] for parts in zip(*shares, strict=True)]

    alone = global_batches(1, 8)
    assert [len(batch) for batch in alone] == [8] * 4
    assert global_batches(2, 4) == global_batches(4, 2) == global_batches(8, 1) == alone
    assert len({index for batch in alone for index, _ in batch}) == 32
    assert {epoch for batch in alone for _, epoch in batch} == {epoch}


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


@pytest.mark.parametrize("training", [True, False])
def test_an_epoch_that_was_left_early_may_take_its_time_to_finish(
    make_loader: Callable[..., VideoLoader], monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    read_frames = frames_module.read_frames

    def slow(path: str, *args: Any, **options: Any) -> torch.Tensor:
        time.sleep(0.3)
        return read_frames(path, *args, **options)

    monkeypatch.setattr(frames_module, "read_frames", slow)
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
    read_frames = frames_module.read_frames

    def hang_on_one(path: str, *args: Any, **options: Any) -> torch.Tensor:
        if path == str(paths[2]):
            time.sleep(6)
        return read_frames(path, *args, **options)

    monkeypatch.setattr(frames_module, "read_frames", hang_on_one)
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
    read_frames = frames_module.read_frames

    def hang_on_one(path: str, *args: Any, **options: Any) -> torch.Tensor:
        if path == str(paths[4]):
            time.sleep(6)
        return read_frames(path, *args, **options)

    monkeypatch.setattr(frames_module, "read_frames", hang_on_one)  # workers are forked and inherit it
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
    def die(path: str, *args: Any, **options: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out

    monkeypatch.setattr(frames_module, "read_frames", die)
    monkeypatch.setattr(loader_module, "_REVIVALS", 0)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    loader = make_loader(training=False)
    loader.multiprocessing_context = "fork"
    with pytest.raises(DataError, match="the process that decodes it died") as caught:
        epoch_of(loader, 0)
    assert str(paths[0]) in str(caught.value)


@pytest.mark.parametrize("policy", ["error", "drop"])
@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_stay_what_they_are(
    make_loader: Callable[..., VideoLoader], monkeypatch: pytest.MonkeyPatch, policy: str, workers: int
) -> None:
    def fail_as_no_decoder_does(path: str, *args: Any, **options: Any) -> torch.Tensor:
        raise RuntimeError("a defect")

    monkeypatch.setattr(frames_module, "read_frames", fail_as_no_decoder_does)
    loader = make_loader(training=False, workers=workers, policy=policy)
    loader.multiprocessing_context = "fork" if workers else None
    with pytest.raises(RuntimeError, match="a defect") as caught:
        epoch_of(loader, 0)
    told = str(caught.value) if workers else "".join(traceback.format_exception(caught.value))
    assert "in fail_as_no_decoder_does" in told  # the line to mend


# Forkserver is the default from Python 3.14 on.
@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_processes_may_be_started_in_any_way(
    make_loader: Callable[..., VideoLoader], paths: list[Path], broken_videos: dict[str, Path], method: str
) -> None:
    files = [*paths[:2], broken_videos["text"]]
    expected = epoch_of(make_loader(workers=0, files=files, policy="resample"), 0)
    loader = make_loader(workers=1, files=files, policy="resample")
    loader.multiprocessing_context = method
    assert same(epoch_of(loader, 0), expected)
    dataset = loader.dataset
    assert isinstance(dataset, VideoCaptionDataset)
    assert dataset.busy is not None
    assert dataset.busy[0, 1] > 0  # it is the same memory


Policy = pytest.mark.parametrize("policy", ["drop", "resample"])


@Policy
@pytest.mark.parametrize("training", [True, False])
def test_a_decoder_that_hangs_is_killed_and_the_epoch_goes_on(
    make_loader: Callable[..., VideoLoader],
    paths: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    training: bool,
) -> None:
    read_frames = frames_module.read_frames

    def hang_on_one(path: str, *args: Any, **options: Any) -> torch.Tensor:
        if path == str(paths[2]):
            time.sleep(600)
        return read_frames(path, *args, **options)

    usual = epoch_of(make_loader(training=training, workers=0), 0)
    monkeypatch.setattr(frames_module, "read_frames", hang_on_one)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    loader = make_loader(training=training, workers=2, timeout=1, policy=policy)
    loader.multiprocessing_context = "fork"
    found = epoch_of(loader, 0)
    dataset = loader.dataset
    assert isinstance(dataset, VideoCaptionDataset)
    assert list(dataset.lost) == [2]
    assert "was not decoded within 1 s" in dataset.lost[2]
    assert len(found) == len(usual)
    for batch, before in zip(found, usual, strict=True):
        ids, wanted = batch["video_ids"].tolist(), before["video_ids"].tolist()
        if training and policy == "resample":
            assert [new for new, old in zip(ids, wanted, strict=True) if old != 2] == [k for k in wanted if k != 2]
            assert 2 not in ids
        else:
            assert ids == [k for k in wanted if k != 2]
    started = time.monotonic()
    assert len(epoch_of(loader, 1)) == len(usual)
    assert time.monotonic() - started < 60  # it is not waited for again
    for process in loader._iterator._workers:  # type: ignore[union-attr]
        assert process.is_alive()


@Policy
def test_a_decoder_that_crashes_is_counted(
    make_loader: Callable[..., VideoLoader], paths: list[Path], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    read_frames = frames_module.read_frames

    def crash_on_one(path: str, *args: Any, **options: Any) -> torch.Tensor:
        if path == str(paths[3]):
            os.kill(os.getpid(), signal.SIGABRT)
        return read_frames(path, *args, **options)

    monkeypatch.setattr(frames_module, "read_frames", crash_on_one)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    loader = make_loader(training=False, workers=2, policy=policy)
    loader.multiprocessing_context = "fork"
    batches = []
    for batch in loader:
        time.sleep(0.1)  # as a training step does, in which the process dies
        batches.append(batch)
    assert torch.cat([batch["video_ids"] for batch in batches]).tolist() == [0, 1, 2, 4, 5, 6]
    dataset = loader.dataset
    assert isinstance(dataset, VideoCaptionDataset)
    assert dataset.lost == {3: "crashes the decoder (SIGABRT)"}


@Policy
def test_running_out_of_memory_is_not_blamed_on_a_video(
    make_loader: Callable[..., VideoLoader], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    def die(path: str, *args: Any, **options: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(frames_module, "read_frames", die)
    monkeypatch.setattr(loader_module, "_REVIVALS", 0)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    loader = make_loader(training=False, policy=policy)
    loader.multiprocessing_context = "fork"
    with pytest.raises(DataError, match="the process that decodes it died"):
        epoch_of(loader, 0)


def test_decoders_that_hang_at_once_are_found_at_once(
    make_loader: Callable[..., VideoLoader], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_frames = frames_module.read_frames

    def hang_on_some(path: str, *args: Any, **options: Any) -> torch.Tensor:
        if path in map(str, paths[:5:2]):  # one in each of the first batches
            time.sleep(600)
        return read_frames(path, *args, **options)

    monkeypatch.setattr(frames_module, "read_frames", hang_on_some)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    loader = make_loader(training=False, workers=5, timeout=2, policy="drop")  # more than there are batches
    loader.multiprocessing_context = "fork"
    starts: list[Any] = []
    begin = loader._begin
    monkeypatch.setattr(loader, "_begin", lambda skip, again: starts.append(skip) or begin(skip, again))
    for _ in range(2):
        batches = epoch_of(loader, 0)
        assert torch.cat([batch["video_ids"] for batch in batches]).tolist() == [1, 3, 5, 6]
    dataset = loader.dataset
    assert isinstance(dataset, VideoCaptionDataset)
    assert sorted(dataset.lost) == [0, 2, 4]
    assert 3 <= len(starts) <= 4  # one or two for all three, not one for each; one for each epoch


def test_it_is_not_the_files_when_all_hang(
    make_loader: Callable[..., VideoLoader], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames_module, "read_frames", lambda *_, **__: time.sleep(600))
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    monkeypatch.setattr(loader_module, "_ROUNDS", 3)
    loader = make_loader(training=False, timeout=0.3, policy="drop")
    loader.multiprocessing_context = "fork"
    with pytest.raises(DataError, match="none of 3 videos in a row can be read") as caught:
        epoch_of(loader, 0)
    assert "was not decoded within 0.3 s" in str(caught.value)
    assert "the disk or share" in str(caught.value.next_step)


def test_new_processes_leave_nothing_of_the_old_ones(
    make_loader: Callable[..., VideoLoader], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_frames = frames_module.read_frames

    def crash(path: str, *args: Any, **options: Any) -> torch.Tensor:
        if path != str(paths[2]):
            os.kill(os.getpid(), signal.SIGABRT)
        return read_frames(path, *args, **options)

    monkeypatch.setattr(frames_module, "read_frames", crash)
    monkeypatch.setattr(loader_module, "_POLL", 0.1)
    loader = make_loader(training=False, files=paths[:3], policy="drop")
    loader.multiprocessing_context = "fork"
    open_files = []
    for _ in range(3):
        assert isinstance(loader.dataset, VideoCaptionDataset)
        loader.dataset.lost.clear()
        loader._iterator = None
        (batch,) = epoch_of(loader, 0)  # the third process reads it
        assert batch["video_ids"].tolist() == [2]
        assert len(multiprocessing.active_children()) <= 1
        del batch
        gc.collect()
        open_files.append(len(os.listdir("/proc/self/fd")))
    assert open_files[2] <= open_files[1]


def test_lost_videos_reach_the_main_process(
    make_loader: Callable[..., VideoLoader], paths: list[Path], broken_videos: dict[str, Path]
) -> None:
    files = [broken_videos["text"], broken_videos["empty"], *paths[:3]]
    loader = make_loader(training=False, workers=1, files=files, policy="drop")
    batches = epoch_of(loader, 0)
    assert [batch["video_ids"].tolist() for batch in batches] == [[2, 3], [4]]  # a batch of nothing is left out
    dataset = loader.dataset
    assert isinstance(dataset, VideoCaptionDataset)
    assert dataset.lost == {0: "is not a video", 1: "is empty (0 bytes)"}
    with pytest.raises(DataError, match="none of 2 videos in a row can be read"):
        epoch_of(make_loader(training=False, workers=0, files=files[:2], policy="drop"), 0)


def test_default_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, processes, expected in [(1, 1, 1), (2, 1, 1), (6, 1, 5), (64, 1, 8), (64, 8, 7), (4, 8, 1)]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)))
        assert default_workers(processes) == expected
