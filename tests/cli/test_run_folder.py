from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from centerclip_pl.cli import run_folder
from centerclip_pl.cli.run_folder import forget_run_dir, new_run_dir, requeued_run_dir
from centerclip_pl.errors import ConfigError


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "CENTERCLIP_RUN_DIR", "WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID"
    for name in (*names, *(key for key in os.environ if key.startswith("SLURM_"))):
        monkeypatch.setenv(name, "")  # so that it is as before after the test, whatever the code does
        monkeypatch.delenv(name)


def test_each_run_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20300102-030405")  # all in one second
    found = []
    for _ in range(3):
        found.append(new_run_dir(tmp_path, "demo", "kmedoids"))
        forget_run_dir()
    names = ["20300102-030405", "20300102-030405-2", "20300102-030405-3"]
    assert found == [tmp_path / "demo" / "kmedoids" / name for name in names]
    assert all(folder.is_dir() for folder in found)


def test_the_name_is_the_time(tmp_path: Path) -> None:
    before = time.strftime("%Y%m%d-%H%M%S")
    folder = new_run_dir(tmp_path, "demo", None, "")
    assert folder.parent == tmp_path / "demo"
    assert re.fullmatch(r"\d{8}-\d{6}", folder.name)
    assert before <= folder.name <= time.strftime("%Y%m%d-%H%M%S")


def test_names_make_no_other_folders(tmp_path: Path) -> None:
    folder = new_run_dir(tmp_path, "my set/../..", "k=3 b16")
    assert folder.parent == tmp_path / "my-set-..-.." / "k-3-b16"
    assert os.listdir(tmp_path) == ["my-set-..-.."]


def test_processes_started_by_the_run_inherit_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new_run_dir(tmp_path, "demo")
    assert os.environ["CENTERCLIP_RUN_DIR"] == str(folder)
    # What Lightning sets for the ranks that it starts, each of which runs the same command again.
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    forget_run_dir()
    assert new_run_dir(tmp_path, "demo") == folder
    assert len(list((tmp_path / "demo").iterdir())) == 1


@pytest.mark.parametrize("name", ["WORLD_SIZE", "NODE_RANK"])
def test_processes_started_from_outside_need_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "4")
    with pytest.raises(ConfigError, match="several processes were started") as caught:
        new_run_dir(tmp_path, "demo")
    assert "--run_dir=FOLDER" in str(caught.value.next_step)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(name, "1" if name == "WORLD_SIZE" else "0")
    assert new_run_dir(tmp_path, "demo").is_dir()


def started_by_slurm(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    found = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "2", "PROCID": "0", "STEP_ID": "0"} | more
    for name, value in found.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    forget_run_dir()


def test_a_job_of_slurm_has_one_folder_and_finds_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert requeued_run_dir(tmp_path, "demo") is None
    started_by_slurm(monkeypatch)
    assert requeued_run_dir(tmp_path, "demo") is None
    folder = new_run_dir(tmp_path, "demo")
    assert folder == tmp_path / "demo/slurm-4711"
    started_by_slurm(monkeypatch, PROCID="1")
    assert new_run_dir(tmp_path, "demo") == folder
    started_by_slurm(monkeypatch, RESTART_COUNT="1")
    assert requeued_run_dir(tmp_path, "demo") == folder
    started_by_slurm(monkeypatch, STEP_ID="1")  # another `srun` of the same job is another run
    assert new_run_dir(tmp_path, "demo") == tmp_path / "demo/slurm-4711.1"
    started_by_slurm(monkeypatch, JOB_ID="4712")
    assert requeued_run_dir(tmp_path, "demo") is None


@pytest.mark.parametrize("more", [{"NTASKS": "1"}, {"JOB_NAME": "bash"}, {"JOB_NAME": "interactive"}])
def test_one_process_of_a_job_is_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    started_by_slurm(monkeypatch, **more)
    assert re.fullmatch(r"\d{8}-\d{6}", new_run_dir(tmp_path, "demo").name)
    assert requeued_run_dir(tmp_path, "demo") is None


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``torchrun(rank)``: this process is now one of two that torchrun started, whose store is a real one."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def become(rank: int, restarts: int = 0) -> None:
        found = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": "2"}
        found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "RANK": str(rank)}
        found |= {"LOCAL_RANK": str(rank), "TORCHELASTIC_RESTART_COUNT": str(restarts)}
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(run_folder, "_agreements", 0)
        forget_run_dir()

    return become


def test_processes_of_torchrun_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchrun: Callable[..., None]
) -> None:
    torchrun(0)
    folder = new_run_dir(tmp_path, "demo")
    forget_run_dir()
    second = new_run_dir(tmp_path, "demo")  # the next run of the same processes
    assert folder != second
    torchrun(1)
    assert new_run_dir(tmp_path, "demo") == folder
    forget_run_dir()
    assert new_run_dir(tmp_path, "demo") == second
    assert requeued_run_dir(tmp_path, "demo") is None
    torchrun(0, restarts=1)
    assert requeued_run_dir(tmp_path, "demo") == folder
    assert new_run_dir(tmp_path, "demo") == folder  # what torchrun starts anew goes on in its folder
    assert sorted((tmp_path / "demo").iterdir()) == sorted([folder, second])


def test_processes_of_torchrun_that_cannot_agree_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchrun: Callable[..., None]
) -> None:
    torchrun(1)
    monkeypatch.setattr(run_folder, "_PATIENCE", timedelta(seconds=0.2))
    with pytest.raises(ConfigError, match="cannot agree on a run folder") as caught:  # the first one says nothing
        new_run_dir(tmp_path, "demo")
    assert "--run_dir=FOLDER" in str(caught.value.next_step)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    with pytest.raises(ConfigError, match="no store of its own"):
        new_run_dir(tmp_path, "demo")


def test_too_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    monkeypatch.setattr(run_folder, "range", lambda *_: range(2, 4), raising=False)
    for name in ("now", "now-2", "now-3"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="--run_dir=FOLDER"):
        new_run_dir(tmp_path)
