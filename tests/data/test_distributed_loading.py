"""Bad videos in trainings of two processes. Whatever one process loses, the other must not wait for it in vain."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("distributed_worker.py")
Train = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def train(corpus: Any, tokenizer_folder: str, tmp_path: Path) -> Train:
    """``train(...)`` trains on 10 videos for 2 epochs of 2 batches a process, validates on 3 and tests on 4 videos."""

    def run(
        broken: tuple[str, ...] = (),
        hang: tuple[str, ...] = (),
        absent: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
        **options: Any,
    ) -> list[dict[str, Any]]:
        data = {
            "captions": str(corpus.captions),
            "tokenizer": tokenizer_folder,
            "num_frames": 2,
            "max_words": 5,
            "image_size": 16,
            "batch_size": 2,
            "eval_batch_size": 1,
            "num_workers": 1,
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        content = {"port": port, "data": data | options, "break": broken, "hang": hang, "absent": absent}
        (tmp_path / "options.json").write_text(json.dumps(content))
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        logs = [tmp_path / f"{rank}.log" for rank in range(2)]
        processes = []
        for rank, log in enumerate(logs):
            command = [sys.executable, str(WORKER), str(tmp_path), str(rank)]
            with log.open("w") as file:
                processes.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment))
        end = time.monotonic() + 200
        try:
            for process in processes:
                process.wait(max(1.0, end - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
        for process, log in zip(processes, logs, strict=True):
            assert process.returncode == 0, log.read_text()[-4000:]
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    return run


def joined(found: list[dict[str, Any]], stage: str) -> list[int]:
    return [video for one in found for batch in one["videos"][stage] for video in batch]


def check(found: list[dict[str, Any]], reasons: dict[str, str]) -> None:
    """Each epoch had its 2 batches in both processes; both know what was lost, which nobody saw."""
    assert [one["steps"] for one in found] == [4, 4]
    assert 3 not in joined(found, "train")
    assert sorted(set(joined(found, "val"))) == [0, 2]
    assert sorted(set(joined(found, "test"))) == [0, 2, 3]
    for one in found:
        assert {video["video_id"]: video["reason"] for video in one["bad"]} == reasons
        counts = {split: (count["videos"], count["broken"]) for split, count in one["counts"].items()}
        assert counts == {"train": (9, 1), "val": (2, 1), "test": (3, 1)}


# Neither of the lost videos is read by both processes: one loses a batch, or waits, and the other does not.
LOST = ("train3.mp4", "val1.mp4", "test1.mp4")


@pytest.mark.slow
def test_what_breaks_in_one_process(train: Train) -> None:
    found = train(broken=LOST, on_bad_video="drop")
    check(found, dict.fromkeys(LOST, "is not a video"))
    sizes = [len(batch) for one in found for batch in one["videos"]["train"]]
    assert sorted(set(sizes)) == [1, 2]  # what is lost is missing from its batch, and nothing takes its place


@pytest.mark.soak
def test_what_hangs_in_one_process(train: Train) -> None:
    found = train(hang=LOST, on_bad_video="resample", loader_timeout=2)
    check(found, dict.fromkeys(LOST, "was not decoded within 2 s, and its process was killed"))
    assert [[len(batch) for batch in one["videos"]["train"]] for one in found] == [[2] * 4] * 2


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["drop", pytest.param("resample", marks=pytest.mark.soak)])
@pytest.mark.soak
def test_what_only_one_process_finds_absent_is_absent_for_all(train: Train, policy: str) -> None:
    found = train(absent=(("train3.mp4", "val1.mp4"), ("train5.mp4", "test1.mp4")), on_bad_video=policy)
    for one in found:
        videos = [video["video_id"] for video in one["bad"]]
        assert videos == ["train3.mp4", "train5.mp4", "val1.mp4", "test1.mp4"]
        counts = {split: (count["videos"], count["missing"]) for split, count in one["counts"].items()}
        assert counts == {"train": (8, 2), "val": (2, 1), "test": (3, 1)}
    assert sorted(set(joined(found, "val"))) == [0, 1]
    assert sorted(set(joined(found, "test"))) == [0, 1, 2]
    ids = joined(found, "train")
    assert len(ids) == 16
    if policy == "resample":
        assert not {3, 5} & set(ids)  # rows of all ten
    else:
        assert sorted(ids) == sorted([*range(8)] * 2)  # rows of the eight that are left
