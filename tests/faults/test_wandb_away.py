"""W&B that cannot be reached, fails, hangs or dies: the figures are on the disk, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.loggers import RunWandbLogger, finish_wandb, make_loggers
from centerclip_pl.training.wandb_faults import in_time

Serve = Callable[..., Any]


def logger_of(run_dir: Path) -> RunWandbLogger:
    logger = make_loggers(run_dir, "project", "name")[1]
    assert isinstance(logger, RunWandbLogger)
    return logger


def service() -> int:
    """The process that W&B has started for this one."""
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="], capture_output=True, text=True)
    (pid,) = [line.split()[0] for line in children.stdout.splitlines() if "wandb-core" in line or "gpu" in line]
    return int(pid)


def test_a_server_that_answers_gets_what_is_logged(tmp_path: Path, fake_wandb: Serve, capfd: Any) -> None:
    server = fake_wandb()
    logger = logger_of(tmp_path / "run")
    logger.log_metrics({"train/loss": 0.5}, 0)
    finish_wandb(0)
    assert '"train/loss":0.5' in "".join(server.lines["wandb-history.jsonl"])
    assert "warning" not in capfd.readouterr().err


@pytest.mark.parametrize("mode", ["refuse", pytest.param("hang", marks=pytest.mark.soak)])
def test_a_run_whose_server_is_away_at_the_start_is_offline(
    tmp_path: Path, fake_wandb: Serve, monkeypatch: pytest.MonkeyPatch, capfd: Any, mode: str
) -> None:
    server = fake_wandb("hang" if mode == "hang" else "ok")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "30")  # it only writes to the disk; but a busy machine is slow
    if mode == "refuse":
        server.refuse()
    started = time.monotonic()
    logger = logger_of(tmp_path / "run")
    logger.log_metrics({"train/loss": 0.5}, 0)
    assert time.monotonic() - started < 30
    finish_wandb(0)
    said = capfd.readouterr().err
    assert "W&B cannot be reached, so this run is offline" in said
    assert f"wandb sync {tmp_path}/run/wandb/offline-run-*" in said
    (file,) = (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
    assert b"train/loss" in file.read_bytes()
    assert not (tmp_path / "run/wandb/run-id.txt").exists()


def test_who_insists_on_being_online_is_told(
    tmp_path: Path, fake_wandb: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_wandb().refuse()
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(ConfigError, match="W&B cannot start the run"):
        logger_of(tmp_path / "run").log_metrics({"train/loss": 0.5}, 0)


@pytest.mark.parametrize(
    "mode", ["500", pytest.param("hang", marks=pytest.mark.soak), pytest.param("refuse", marks=pytest.mark.soak)]
)
@pytest.mark.soak
def test_a_server_that_goes_away_costs_a_bounded_wait_at_the_end(
    tmp_path: Path, fake_wandb: Serve, capfd: Any, mode: str
) -> None:
    server = fake_wandb()
    logger = logger_of(tmp_path / "run")
    logger.log_metrics({"train/loss": 0.5}, 0)
    server.wait_for("file_stream")
    if mode == "refuse":
        server.refuse()
    else:
        server.mode = mode
    started = time.monotonic()
    for step in range(1, 200):
        logger.log_metrics({"train/loss": 0.25}, step)
    assert time.monotonic() - started < 5  # no step waits
    finish_wandb(0)
    assert time.monotonic() - started < 30
    assert wandb.run is None
    said = capfd.readouterr().err
    (folder,) = (tmp_path / "run/wandb").glob("run-*-*")
    assert "did not send everything in time" in said
    assert f"wandb sync {folder}" in said
    (file,) = folder.glob("*.wandb")
    assert file.read_bytes().count(b"train/loss") >= 200


@pytest.mark.parametrize("kill", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)])
@pytest.mark.soak
def test_the_death_of_wandbs_own_process_is_said_once(
    tmp_path: Path, fake_wandb: Serve, capfd: Any, kill: signal.Signals
) -> None:
    fake_wandb()
    logger = logger_of(tmp_path / "run")
    logger.log_metrics({"train/loss": 0.5}, 0)
    pid = service()
    os.kill(pid, kill)
    time.sleep(0.5)
    for step in range(1, 20):
        logger.log_metrics({"train/loss": 0.25}, step)
    if kill == signal.SIGKILL:
        assert capfd.readouterr().err.count("warning: W&B") == 1
    started = time.monotonic()
    finish_wandb(0)
    assert time.monotonic() - started < 40
    assert "to upload them: wandb sync" in capfd.readouterr().err
    if kill == signal.SIGSTOP:
        os.kill(pid, signal.SIGKILL)


def test_a_call_that_does_not_return_is_left_alone() -> None:
    started = time.monotonic()
    with pytest.raises(Exception, match=r"the table was not sent within 0 s"):
        in_time(lambda: time.sleep(60), 0.1, "the table")
    assert time.monotonic() - started < 5
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 5, "a defect")
