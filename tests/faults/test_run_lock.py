"""Two runs in one folder: the second is refused, unless the first is gone, however it went."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.run_lock import LOCK_NAME, RunLock

# Another launch, with a loader's process that outlives it.
HOLDER = """
import os, sys, time
from centerclip_pl.training.run_lock import RunLock
lock = RunLock(sys.argv[1])
lock.acquire()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


def test_a_second_launch_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(ConfigError) as refused:
            RunLock(tmp_path).acquire()
        assert f"{tmp_path} is in use by another run: process {os.getpid()} on this machine, since 2" in str(
            refused.value
        )
        assert "--run_dir=FOLDER" in str(refused.value.next_step)
    assert list(tmp_path.iterdir()) == []  # a folder that stays empty may be removed
    with RunLock(tmp_path):
        pass


def test_a_launch_may_be_killed_and_leave_processes_behind(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    orphan = int(other.stdout.readline())
    try:
        with pytest.raises(ConfigError, match=f"process {other.pid} on this machine"):
            RunLock(tmp_path).acquire()
        other.kill()
        other.wait()
        os.kill(orphan, 0)  # still there
        assert (tmp_path / LOCK_NAME).is_file()
        lock, deadline = RunLock(tmp_path), time.monotonic() + 30
        while True:  # the orphan may not have come to letting go of its copy
            try:
                lock.acquire()
                break
            except ConfigError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
        lock.release()
    finally:
        other.kill()
        os.kill(orphan, signal.SIGKILL)
        other.stdout.close()


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"])
def test_the_other_processes_of_a_launch_do_not_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with RunLock(tmp_path):
        monkeypatch.setenv(variable, "1")
        with RunLock(tmp_path):
            pass
        assert (tmp_path / LOCK_NAME).is_file()


def test_one_that_waits_at_a_lock_file_that_is_being_removed_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    opened = os.open

    def open_then_the_first_leaves(*args: object, **options: object) -> int:
        file = opened(*args, **options)  # type: ignore[arg-type]
        first.release()
        return file

    monkeypatch.setattr(os, "open", open_then_the_first_leaves)
    second.acquire()
    monkeypatch.undo()
    with pytest.raises(ConfigError):  # what it holds is the file that others see
        RunLock(tmp_path).acquire()
    second.release()


def test_a_folder_that_was_made_anew_keeps_its_new_holder(tmp_path: Path) -> None:
    first = RunLock(tmp_path / "run")
    (tmp_path / "run").mkdir()
    first.acquire()
    (tmp_path / "run").rename(tmp_path / "away")
    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run"):
        first.release()
        assert (tmp_path / "run" / LOCK_NAME).is_file()


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written: No such file or directory"):
        RunLock(tmp_path / "absent").acquire()


def test_a_holder_without_a_name_is_refused_all_the_same(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        os.truncate(tmp_path / LOCK_NAME, 0)
        started = time.monotonic()
        with pytest.raises(ConfigError, match="is in use by another run\n"):
            RunLock(tmp_path).acquire()
        assert time.monotonic() - started < 1
