"""A clock that is set while a training runs, by hours forth and back: nothing waits for it, ends, or is lost."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.training.callbacks import ThroughputLogger
from centerclip_pl.training.last_checkpoint import LastCheckpoint
from centerclip_pl.training.loggers import RunCSVLogger

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
HOUR = 3600.0


def test_a_training_goes_by_a_clock_that_nobody_sets(
    tmp_path: Path,
    small_model: Callable[..., Any],
    noise_data: Callable[..., Any],
    small_trainer: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, jumps = time.time, [0.0, 5 * HOUR, -7 * HOUR]
    asked: list[float] = []

    def jumping() -> float:
        asked.append(now() + jumps[len(asked) % len(jumps)])
        return asked[-1]

    monkeypatch.setattr(time, "time", jumping)
    last = LastCheckpoint(str(tmp_path / "checkpoints"), every_minutes=60.0)
    written: list[int] = []
    write = last._write
    monkeypatch.setattr(last, "_write", lambda trainer: (written.append(trainer.global_step), write(trainer)))
    logger = RunCSVLogger(tmp_path)
    small_trainer(
        ThroughputLogger(),
        last,
        enable_checkpointing=True,
        logger=logger,
        max_epochs=3,
        max_time={"hours": 1},  # Lightning's own timer
        limit_val_batches=0,
    ).fit(small_model(), datamodule=noise_data())
    assert written == [4, 8, 12]  # at the end of each epoch; no hour has passed
    with (tmp_path / "metrics.csv").open(newline="") as file:
        speeds = [float(row["train/videos_per_second"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(speeds) == 12
    assert all(speed > 0.01 for speed in speeds)  # not two videos in five hours, nor in less than no time


def test_the_search_of_a_sweep_does_not_look_at_the_clock(tmp_path: Path) -> None:
    # What is done and what is not is told by files and locks; a trial's record holds no time that is compared.
    from centerclip_pl.sweeps import engine, process, running, search, trials

    for module in (engine, process, running, search, trials):
        assert module.__file__ is not None
        source = Path(module.__file__).read_text()
        for clock in ("time.time(", "datetime.now", "st_mtime", "getmtime"):
            assert clock not in source, (module.__name__, clock)


def test_two_runs_of_one_second_have_two_folders_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from centerclip_pl.cli.run_folder import forget_run_dir, new_run_dir

    forget_run_dir()
    folders = []
    for stamp in ("20260101-120000", "20260101-050000", "20260101-120000"):  # set back, and there again
        monkeypatch.setattr(time, "strftime", lambda _, stamp=stamp: stamp)
        folders.append(new_run_dir(tmp_path, "demo"))
        (folders[-1] / "results.json").write_text(json.dumps({}))
        forget_run_dir()
    assert len(set(folders)) == 3
