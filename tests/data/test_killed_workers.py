"""Loader processes that are killed, as the kernel does it when memory runs out: the epoch stays what it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from centerclip_pl.data import loader as loader_module
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.dataset import VideoCaptionDataset
from centerclip_pl.data.loader import VideoLoader, video_loader
from centerclip_pl.data.sampler import EpochSampler
from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.errors import DataError

VIDEOS = 8


class Grey:
    """Frames of plain grey, whose value says which was chosen; kills its process at a video so many times."""

    def __init__(self, folder: Path, at: int | None = None, times: int = 0) -> None:
        self.names = [f"v{video}.mp4" for video in range(VIDEOS)]
        self.folder, self.at, self.times = folder, at, times

    def __call__(self, video: int, choose: Callable[[int], Any]) -> Tensor:
        died = len(list(self.folder.glob("died*")))
        if video == self.at and died < self.times:
            (self.folder / f"died{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        grey = torch.as_tensor(list(choose(40)), dtype=torch.uint8) + video
        return grey.view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()


@pytest.fixture
def make_loader(tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VideoLoader]:
    monkeypatch.setattr(loader_module, "_POLL", 0.05)

    def make(reader: Grey, *, training: bool = True, workers: int = 2, policy: Any = "error") -> VideoLoader:
        rows = [
            {"video_id": f"v{k}", "path": f"v{k}.mp4", "caption": f"w{k} w{c}"} for k in range(VIDEOS) for c in "12"
        ]
        dataset = VideoCaptionDataset(
            caption_table(rows, "test"),
            CaptionTokenizer(tokenizer_folder, 5),
            reader,
            num_frames=3,
            training=training,
            sampling="random" if training else "uniform",
            seed=1,
            on_bad_video=policy,
        )
        sampler = EpochSampler(dataset, 1, 0, 1) if training else None
        loader = video_loader(dataset, 2, num_workers=workers, timeout=60, pin_memory=False, sampler=sampler)
        loader.multiprocessing_context = "fork"
        dataset.tokenizer(["w1"])  # loaded before the processes begin, as in a run
        return loader

    return make


def epoch_of(loader: VideoLoader, epoch: int = 0) -> list[Any]:
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.set_epoch(epoch)
    return list(loader)


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a
    )


@pytest.mark.parametrize(("training", "policy"), [(True, "error"), (False, "drop")])
def test_a_killed_process_is_replaced_and_nothing_else_changes(
    make_loader: Callable[..., VideoLoader], tmp_path: Path, capfd: Any, training: bool, policy: str
) -> None:
    def with_draws(loader: VideoLoader) -> tuple[list[Any], list[Tensor]]:
        torch.manual_seed(0)
        batches, draws = [], []
        if isinstance(loader.sampler, EpochSampler):
            loader.sampler.set_epoch(0)
        for batch in loader:
            batches.append(batch)
            draws.append(torch.rand(()))  # as a model's dropout does
        return batches, draws

    calm, calm_draws = with_draws(make_loader(Grey(tmp_path), training=training, policy=policy))
    loader = make_loader(Grey(tmp_path, at=5, times=2), training=training, policy=policy)
    batches, draws = with_draws(loader)
    assert same(batches, calm)
    assert draws == calm_draws
    assert len(list(tmp_path.glob("died*"))) == 2
    said = capfd.readouterr().err
    assert said.count("was killed, most likely because memory ran out") == 2
    assert "time 2 of at most 2 in an epoch" in said
    assert "lower --data.num_workers" in said
    dataset = loader.dataset
    assert isinstance(dataset, VideoCaptionDataset)
    assert dataset.lost == {}  # no video is blamed
    assert same(epoch_of(loader, 1), epoch_of(make_loader(Grey(tmp_path), training=training), 1))


def test_one_that_is_killed_again_and_again_ends_the_run(
    make_loader: Callable[..., VideoLoader], tmp_path: Path
) -> None:
    loader = make_loader(Grey(tmp_path, at=5, times=100), training=False)
    found = []
    with pytest.raises(DataError, match="the process that decodes it died") as caught:  # noqa: PT012
        for batch in loader:
            found += batch["video_ids"].tolist()
    assert found == list(range(len(found)))  # how far it came before, and nothing left out
    assert "v5.mp4" in str(caught.value)
    assert "--data.num_workers" in str(caught.value.next_step)
    assert len(list(tmp_path.glob("died*"))) == 3


def test_processes_that_are_killed_between_two_epochs_are_replaced(
    make_loader: Callable[..., VideoLoader], tmp_path: Path
) -> None:
    loader = make_loader(Grey(tmp_path), training=False)
    first = epoch_of(loader)
    for process in loader._iterator._workers:  # type: ignore[union-attr]
        process.kill()
        process.join()
    assert same(epoch_of(loader), first)


ORPHANS = """
import sys, time
import torch
class Slow(torch.utils.data.Dataset):
    def __len__(self): return 100
    def __getitem__(self, k): time.sleep(0.05); return k
if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Slow(), num_workers=2, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    print(*(w.pid for w in batches._workers), flush=True)
    time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.soak
def test_processes_end_soon_after_the_one_they_work_for(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(ORPHANS)
    main = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, text=True)
    assert main.stdout is not None
    workers = [int(pid) for pid in main.stdout.readline().split()]
    assert len(workers) == 2
    main.kill()
    main.wait()
    main.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_batch_whose_process_is_no_more_counts_as_its_death(
    make_loader: Callable[..., VideoLoader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = make_loader(Grey(tmp_path), training=False)
    begin = loader._begin
    attempts: list[int] = []

    def interrupted(skip: int, again: bool) -> Any:
        attempts.append(skip)
        batches = begin(skip, again)

        class Given:
            def __init__(self) -> None:
                self.first = True

            def __next__(self) -> Any:
                if self.first:
                    batch = next(batches)
                    self.first = False
                    return batch
                for process in loader._iterator._workers:  # type: ignore[union-attr]
                    process.kill()
                    process.join()
                raise ConnectionRefusedError("it cannot hand over its memory any more")

        return Given() if len(attempts) == 1 else batches

    monkeypatch.setattr(loader, "_begin", interrupted)
    assert torch.cat([batch["video_ids"] for batch in epoch_of(loader)]).tolist() == list(range(VIDEOS))
    assert attempts == [0, 1]


def test_shared_memory_that_is_full_is_said_at_once(
    make_loader: Callable[..., VideoLoader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tensor: Tensor) -> Tensor:  # torch's words
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"
        )

    loader = make_loader(Grey(tmp_path), training=False)
    monkeypatch.setattr(Tensor, "share_memory_", refuse)  # inherited by the processes, which begin later
    with pytest.raises(DataError, match=r"in shared memory: No space left on device \(28\)") as caught:
        epoch_of(loader)
    assert "--shm-size" in str(caught.value.next_step)
