from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from centerclip_pl.cli import run_folder
from centerclip_pl.cli.run_folder import forget_run_dir, new_run_dir
from centerclip_pl.errors import ConfigError


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CENTERCLIP_RUN_DIR", "WORLD_SIZE", "SLURM_NTASKS", "LOCAL_RANK"):
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


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_processes_started_from_outside_need_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "4")
    with pytest.raises(ConfigError, match="several processes were started") as caught:
        new_run_dir(tmp_path, "demo")
    assert "--run_dir=FOLDER" in str(caught.value.next_step)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(name, "1")
    assert new_run_dir(tmp_path, "demo").is_dir()


def test_too_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    monkeypatch.setattr(run_folder, "range", lambda *_: range(2, 4), raising=False)
    for name in ("now", "now-2", "now-3"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="--run_dir=FOLDER"):
        new_run_dir(tmp_path)
