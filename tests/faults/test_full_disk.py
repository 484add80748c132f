"""Disks that fill up: what is there stays, what did not fit waits or is said in one message."""

from __future__ import annotations

import csv
import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from centerclip_pl.cli.system_errors import system_message
from centerclip_pl.files import mount_of, replacing
from centerclip_pl.training.disk_space import DiskSpaceCheck, checkpoint_bytes, too_little_room
from centerclip_pl.training.loggers import RunCSVLogger

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
Make = Callable[..., Any]
SmallDisk = Callable[[int], Path]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """The system refuses to make any file of this process longer; what does fit is written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_that_do_not_fit_wait_and_cut_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = RunCSVLogger(tmp_path, flush_logs_every_n_steps=1)
    logger.log_metrics({"train/loss": 0.5}, 0)
    whole = (tmp_path / "metrics.csv").read_bytes()
    with files_end_at(len(whole) + 3):  # some bytes of the next row
        for step in (1, 2):
            logger.log_metrics({"train/loss": 0.25}, step)
            assert (tmp_path / "metrics.csv").read_bytes() == whole
        # A new column means a new file, for which there is no room either.
        logger.log_metrics({"train/loss": 0.125, "val/t2v/R@1": 12.0}, 3)
        assert (tmp_path / "metrics.csv").read_bytes() == whole
        logger.finalize("failed")
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert f"{tmp_path}/metrics.csv cannot be written: File too large; training goes on" in said
    logger.log_metrics({"train/loss": 0.1}, 4)
    assert [(row["step"], row["train/loss"], row["val/t2v/R@1"]) for row in rows(tmp_path)] == [
        ("0", "0.5", ""),
        ("1", "0.25", ""),
        ("2", "0.25", ""),
        ("3", "0.125", "12.0"),
        ("4", "0.1", ""),
    ]
    assert "metrics.csv is complete again" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_metrics_of_a_folder_that_was_removed_begin_anew(tmp_path: Path) -> None:
    logger = RunCSVLogger(tmp_path / "run", flush_logs_every_n_steps=1)
    logger.log_metrics({"train/loss": 0.5}, 0)
    (tmp_path / "run/metrics.csv").unlink()
    (tmp_path / "run").rmdir()
    logger.log_metrics({"train/loss": 0.25}, 1)
    assert [(row["step"], row["train/loss"]) for row in rows(tmp_path / "run")] == [("1", "0.25")]


def test_a_disk_without_room_is_one_message(small_disk: SmallDisk) -> None:
    disk = small_disk(64 * 1024)
    (disk / "results.json").write_text("old")
    with pytest.raises(OSError, match="No space left") as full, replacing(disk / "results.json") as part:
        part.write_text("x" * 100_000)
    message = system_message(full.value)
    assert message is not None
    assert f"{disk}/results.json: No space left on device (0.1 MiB are free on the file system of {disk})" in message
    assert "make room there; the same command" in message
    assert [(path.name, path.read_text()) for path in disk.iterdir()] == [("results.json", "old")]
    # torch's writer says nothing of it itself.
    with pytest.raises(RuntimeError) as hidden, (disk / "a.ckpt").open("wb") as file:
        torch.save(torch.zeros(100_000), file)
    assert "No space" not in str(hidden.value)
    assert "No space left on device" in str(system_message(hidden.value))


def test_other_errors_of_the_system_have_a_next_step_and_defects_keep_their_traceback() -> None:
    assert "ulimit -n" in str(system_message(OSError(errno.EMFILE, "Too many open files")))
    assert "--run_dir" in str(system_message(OSError(errno.EROFS, "Read-only file system", "/mnt/run")))
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ValueError, match="library") as wrapped:
        raise ValueError("of a library") from full
    assert "No space left on device" in str(system_message(wrapped.value))
    assert system_message(RuntimeError("a defect")) is None
    assert system_message(FileNotFoundError(errno.ENOENT, "No such file or directory", "a")) is None
    with pytest.raises(AttributeError) as defect:  # noqa: PT012
        try:
            raise full
        except OSError:
            raise AttributeError("a defect in its handling")  # noqa: B904
    assert system_message(defect.value) is None


def test_the_size_of_a_checkpoint_is_known_before_there_is_one(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    best = ModelCheckpoint(tmp_path / "checkpoints", save_top_k=1, monitor=None)
    trainer = small_trainer(best, DiskSpaceCheck(), enable_checkpointing=True, limit_val_batches=0)
    before: list[int] = []
    monkeypatch.setattr(model, "on_train_start", lambda: before.append(checkpoint_bytes(model, trainer.optimizers)))
    trainer.fit(model, datamodule=noise_data())
    (file,) = (tmp_path / "checkpoints").glob("*.ckpt")
    held = torch.load(file, weights_only=True)
    real = sum(value.nbytes for value in held["state_dict"].values())
    real += sum(
        v.nbytes for state in held["optimizer_states"][0]["state"].values() for k, v in state.items() if k != "step"
    )
    assert before == [real]
    assert checkpoint_bytes(model, trainer.optimizers) == pytest.approx(real, rel=0.01)


def test_a_training_whose_checkpoints_will_not_fit_is_warned_about(
    small_disk: SmallDisk,
    small_model: Make,
    noise_data: Make,
    small_trainer: Make,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = small_model()
    size = 3 * sum(value.nbytes for value in model.state_dict().values())
    disk = small_disk(size * 5 // 2)

    def said() -> str:
        best = ModelCheckpoint(disk / "checkpoints", save_top_k=1, every_n_epochs=100)
        options = {"enable_checkpointing": True, "limit_val_batches": 0, "limit_train_batches": 1, "max_epochs": 1}
        small_trainer(best, DiskSpaceCheck(), **options).fit(small_model(), datamodule=noise_data())
        return capsys.readouterr().err

    message = said()
    assert "warning: the checkpoints need up to" in message
    assert "(3 of " in message
    assert f"on the file system of {disk}" in message
    assert "--run_dir=FOLDER" in message
    # What is there will be replaced, and counts as room.
    (disk / "checkpoints").mkdir(exist_ok=True)
    (disk / "checkpoints/last.ckpt").write_bytes(bytes(size))
    assert "warning: the checkpoints" in said()
    os.truncate(disk / "checkpoints/last.ckpt", 0)
    assert too_little_room(disk / "checkpoints", size, 2) is None
    assert mount_of(disk / "not/there/yet") == disk
