"""When last.ckpt is written, and how a training ends that is asked to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from centerclip_pl.errors import ConfigError
from centerclip_pl.training import last_checkpoint
from centerclip_pl.training.last_checkpoint import LastCheckpoint
from centerclip_pl.training.stopping import StopRequests

STEPS = 3  # of an epoch of the tiny data: 12 videos, 4 at a time


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Nothing stays behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    after = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.signal(signal.SIGINT, outside)
    assert after == before


class Act(Callback):
    """Does something behind a step, or in a validation."""

    def __init__(self, step: int, act: Callable[[], Any], validating: bool = False) -> None:
        self.step, self.act, self.validating = step, act, validating

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and not self.validating:
            self.act()

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and self.validating:
            self.act()


@pytest.fixture
def fit(tiny: Any, tiny_data: Any, make_trainer: Any, tmp_path: Path) -> Callable[..., list[int]]:
    """``fit(*callbacks, last=...)`` trains for 3 epochs; returns the steps of which last.ckpt was written."""
    written: list[int] = []
    stop = StopRequests()

    class Noted(LastCheckpoint):
        def _write(self, trainer: L.Trainer) -> None:
            written.append(trainer.global_step)
            super()._write(trainer)

    def run(*callbacks: Callback, last: dict[str, Any] | None = None, **options: Any) -> list[int]:
        checkpoint = Noted(str(tmp_path / "checkpoints"), stop, **(last or {}))
        made = make_trainer([], stop, checkpoint, *callbacks, **options)

        def between(batch: Any, index: int) -> Any:
            if made.training:
                checkpoint.between_steps(made)
            return batch

        tiny.on_before_batch_transfer = between
        try:
            made.fit(tiny, tiny_data)
        finally:
            tiny.written = written
        return written

    return run


def state(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_at_the_end_of_each_epoch(fit: Callable[..., list[int]], tmp_path: Path) -> None:
    assert fit() == [3, 6, 9]
    assert state(tmp_path / "checkpoints/last.ckpt")["global_step"] == 9
    assert state(tmp_path / "checkpoints/previous.ckpt")["global_step"] == 6


def test_after_so_many_steps(fit: Callable[..., list[int]]) -> None:
    # Counted from the last time; what the end of an epoch writes is not written again before the next step.
    assert fit(last={"every_steps": 2}) == [2, 3, 5, 6, 8, 9]


def test_after_so_many_minutes_of_a_clock_that_nobody_sets(
    fit: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, jumps = [100.0], [0.0, 1e9, -1e9]
    monkeypatch.setattr(last_checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(last_checkpoint.time, "time", lambda: jumps[int(now[0]) % 3])

    class Minute(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            now[0] += 61

    assert fit(Minute(), last={"every_minutes": 2.0}) == [2, 3, 5, 6, 8, 9]


def test_not_while_gradients_wait_for_more_batches(fit: Callable[..., list[int]]) -> None:
    # 3 batches are two steps: of 2 batches, and of the one that is left.
    assert fit(last={"every_steps": 1}, accumulate_grad_batches=2) == [1, 2, 3, 4, 5, 6]


def test_nothing_is_written_where_nothing_is_kept(fit: Callable[..., list[int]], tmp_path: Path) -> None:
    assert fit(last={"every_steps": 1}, fast_dev_run=True) == []
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("option", ["every_steps", "every_minutes"])
def test_numbers_that_cannot_work(option: str) -> None:
    with pytest.raises(ConfigError, match=f"resume.{option} is 0"):
        LastCheckpoint("x", **{option: 0})  # type: ignore[arg-type]


def kill(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
@pytest.mark.parametrize(("step", "saved"), [(1, [1]), (3, [3]), (4, [3, 4])])
def test_a_signal_ends_the_training_behind_its_step(
    fit: Callable[..., list[int]],
    tiny: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
    step: int,
    saved: list[int],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit(Act(step, kill(number)), limit_val_batches=0)
    assert stopped.value.code == status
    assert tiny.written == saved
    assert state(tmp_path / "checkpoints/last.ckpt")["global_step"] == step
    assert f"{number.name}: the training stops behind this step" in capfd.readouterr().err


def test_a_validation_ends_behind_its_batch_and_nothing_is_written(
    fit: Callable[..., list[int]], tiny: Any, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit(Act(2, kill(signal.SIGTERM), validating=True), val_check_interval=2)
    assert stopped.value.code == 143
    assert tiny.written == []  # a checkpoint from here would leave the validation out


def test_a_second_signal_ends_at_once(fit: Callable[..., list[int]], tiny: Any) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        fit(Act(1, twice))
    assert tiny.written == []


def test_behind_the_last_step_a_signal_is_not_lost(fit: Callable[..., list[int]], tiny: Any) -> None:
    with pytest.raises(SystemExit) as stopped:  # or a test would follow
        fit(Act(9, kill(signal.SIGTERM)), limit_val_batches=0)
    assert stopped.value.code == 143
    assert tiny.written == [3, 6, 9]


def test_an_ignored_interrupt_stays_ignored(fit: Callable[..., list[int]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
    try:
        assert fit(Act(1, kill(signal.SIGINT))) == [3, 6, 9]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_slurm_job_is_queued_again(
    fit: Callable[..., list[int]], tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = tmp_path / "called"
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {called}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with pytest.raises(SystemExit):
        fit(Act(2, kill(signal.SIGUSR1)))
    assert tiny.written == [2]
    assert called.read_text() == "requeue 4711\n"


def test_process_0_queues_a_job_again_also_where_only_another_process_has_heard_of_it() -> None:
    decisions: list[bool] = []

    def decide(decision: bool, all: bool = True) -> bool:  # Lightning's name
        decisions.append(decision)
        return True

    stop = StopRequests()
    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(reduce_boolean_decision=decide))
    with pytest.raises(SIGTERMException):
        stop.raise_it(trainer)
    assert decisions == [False]
    assert stop.asked == signal.SIGUSR1


def test_a_job_whose_system_has_no_scontrol_ends_in_order(
    fit: Callable[..., list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with pytest.raises(SystemExit) as stopped:
        fit(Act(2, kill(signal.SIGUSR1)))
    assert stopped.value.code == 143
    assert "cannot be queued again: scontrol: No such file" in capfd.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_forked_process_leaves_ctrl_c_to_its_parent(
    fit: Callable[..., list[int]], capfd: pytest.CaptureFixture[str], number: signal.Signals, status: int
) -> None:
    ended: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), number)
            os._exit(7)
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert fit(Act(2, fork)) == [3, 6, 9]
    assert ended == [status]
    assert "the training stops" not in capfd.readouterr().err
