"""A process that fails ends the whole command, with its own message alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from centerclip_pl.errors import ConfigError, DataError, NonFiniteError
from centerclip_pl.training import failing_ranks
from centerclip_pl.training.failing_ranks import FailingRanks

Launch = Callable[..., Any]

# The command's message, and how often it may be seen.
SAYS = {
    "data": "video7.mp4: cannot be read",
    "nan": "nan",
    "kill": "was killed (SIGKILL)",
    "defect": "AttributeError: a defect of the program",
}


def fail(launch: Launch, launcher: str, folder: Path, words: list[str], rank: int, how: str, where: str) -> Any:
    callback = [
        f"--trainer.callbacks.{name}={value}" for name, value in (("rank", rank), ("how", how), ("where", where))
    ]
    more = ["--run_dir=run", "--data.batch_size=2", "--trainer.strategy=ddp"]
    done = launch(
        launcher, folder, "fit", *words, *more, "--trainer.callbacks=injected_failures.Fail", *callback, timeout=180
    )
    assert 0 not in done.statuses
    checkpoint = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] in (4, 8)  # that of an epoch's end, and whole
    assert all(bool(w.isfinite().all()) for w in checkpoint["state_dict"].values() if w.is_floating_point())
    return done


@pytest.mark.slow
def test_a_process_that_is_killed(launch: Launch, words: list[str], tmp_path: Path) -> None:
    done = fail(launch, "lightning", tmp_path, words, 1, "kill", "training")
    assert done.output.count("error:") == 1
    assert "error: process 1 of 2: was killed (SIGKILL)" in done.output
    assert "--data.batch_size" in done.output
    assert "Traceback" not in done.output
    assert "goes on from its last checkpoint" in done.output


@pytest.mark.soak
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
@pytest.mark.parametrize(
    ("rank", "how", "where"),
    [
        (0, "data", "training"),
        (1, "data", "training"),
        (0, "nan", "training"),
        (0, "defect", "training"),
        (1, "defect", "validation"),
        (1, "kill", "validation"),
        (0, "kill", "training"),
    ],
)
def test_every_way_to_fail(
    launch: Launch, words: list[str], tmp_path: Path, launcher: str, rank: int, how: str, where: str
) -> None:
    done = fail(launch, launcher, tmp_path, words, rank, how, where)
    errors = [line for line in done.output.splitlines() if line.startswith("error:")]
    if how == "kill" and (launcher == "torchrun" or rank == 0):
        # Nobody of us has started it: torchrun (or the shell) says how it ended.
        assert len(errors) <= 1
        assert all("ended without a word" in line for line in errors)
    else:
        assert len(errors) == 1, done.output
        assert SAYS[how] in errors[0]
        assert how == "nan" or f"process {rank} of 2" in errors[0]
    summaries = done.output.count("raise ChildFailedError")  # torchrun's own
    assert done.output.count("Traceback") == summaries + (1 if how == "defect" else 0), done.output


@pytest.mark.soak
def test_a_process_that_hangs(launch: Launch, words: list[str], tmp_path: Path) -> None:
    done = fail(launch, "lightning", tmp_path, [*words, "--process_timeout=15"], 1, "hang", "training")
    assert done.output.count("error:") == 1
    assert "error: process 0 of 2: waited in vain for another process, which hangs" in done.output
    assert "Traceback" not in done.output


# Without processes ----------------------------------------------------------------------------------------------------


class Ended(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int, children: list[Any]) -> None:
        raise Ended(status)

    monkeypatch.setattr(failing_ranks, "_end", end)
    monkeypatch.setattr(failing_ranks, "_GRACE", 0.3)


def trainer(rank: int = 0, world: int = 2) -> Any:
    strategy = SimpleNamespace(launcher=None)
    return SimpleNamespace(global_rank=rank, world_size=world, loggers=[], strategy=strategy)


CLOSED = RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:6129. More words.")


def test_one_process_is_left_alone(tmp_path: Path, ended: None) -> None:
    FailingRanks(tmp_path).on_exception(trainer(world=1), None, DataError("x"))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("request_to_stop", [KeyboardInterrupt(), SystemExit(1)])
def test_who_is_asked_to_stop_has_not_failed(tmp_path: Path, ended: None, request_to_stop: BaseException) -> None:
    FailingRanks(tmp_path).on_exception(trainer(), None, request_to_stop)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_first_speaks_and_the_others_are_silent(
    tmp_path: Path, ended: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, error, status in ((1, DataError("bad", "mend it"), 2), (0, CLOSED, 1), (2, NonFiniteError("nan"), 2)):
        with pytest.raises(Ended) as caught:
            FailingRanks(tmp_path).on_exception(trainer(rank, 3), None, error)  # type: ignore[arg-type]
        assert caught.value.status == status
    message = "process 1 of 3: bad\n  -> mend it\n"
    assert capsys.readouterr().err == f"error: {message}"
    assert (tmp_path / failing_ranks.FAILURE_FILE).read_text() == message


def test_where_nobody_says_why_the_consequence_is_told(
    tmp_path: Path, ended: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Ended):
        FailingRanks(tmp_path).on_exception(trainer(), None, CLOSED)  # type: ignore[arg-type]
    found = capsys.readouterr().err
    assert "another process ended without a word (Connection closed by peer [127.0.0.1]:6129)" in found
    assert "Traceback" not in found


def test_a_defect_keeps_its_traceback(tmp_path: Path, ended: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Ended):
        FailingRanks(tmp_path).on_exception(trainer(), None, RuntimeError("shapes do not fit"))  # type: ignore[arg-type]
    assert "RuntimeError: shapes do not fit" in capsys.readouterr().err


def test_a_timeout_must_be_one() -> None:
    strategy = DDPStrategy()
    failing_ranks.wait_at_most(strategy, 90)
    assert strategy._timeout.total_seconds() == 90
    with pytest.raises(ConfigError, match="process_timeout is 0"):
        failing_ranks.wait_at_most(strategy, 0)


@pytest.mark.parametrize(
    ("error", "consequence"),
    [
        (CLOSED, True),
        (ConnectionResetError("Connection reset by peer"), True),
        (dist.DistNetworkError("The client socket has failed to connect"), True),
        (RuntimeError("[pair.cc] Timed out waiting 1800000ms for recv operation; gloo"), True),
        (RuntimeError("Application timeout caused pair closure"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (DataError("connection closed by peer"), False),
        (ValueError("store"), False),
    ],
)
def test_what_is_only_a_consequence(error: BaseException, consequence: bool) -> None:
    assert failing_ranks._is_consequence(error) is consequence
