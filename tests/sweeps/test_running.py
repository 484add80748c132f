from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps.process import TrialLock
from centerclip_pl.sweeps.running import trial_environment
from centerclip_pl.sweeps.trials import SweepFolder

GRID = {"quality": {"values": [1, 2, 3]}, "epochs": {"value": 2}}
FAKE = Path(__file__).with_name("fake_training.py")


def events(lines: list[str], kind: str) -> Counter[str]:
    return Counter(line.split()[1] for line in lines if line.startswith(f"{kind} "))


def test_every_run_is_done_once_in_a_folder_of_its_own(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    runner = make_runner(make_sweep(GRID), jobs=2)
    outcome = runner.run()
    assert events(diary(), "done") == {"0000": 1, "0001": 1, "0002": 1}
    assert sorted(trial.parameters["quality"] for trial in outcome.finished) == [1, 2, 3]
    assert (outcome.failed, outcome.stopped, outcome.done_before) == ([], [], 0)
    trials = runner.folder.trials()
    assert [(trial.state, trial.attempts) for trial in trials] == [("finished", 1)] * 3
    log = (trials[1].folder / "log.txt").read_text()
    assert f"centerclip train --epochs=2 --quality=2 --run_dir={trials[1].folder}" in log
    assert sorted(line.partition(", ")[0] for line in runner.said) == [
        f"[{n}/3] quality={n}: val/t2v/R@1 {2 * n}" for n in (1, 2, 3)
    ]


def test_a_second_call_does_nothing_and_runs_what_lost_its_results(
    make_sweep: Any, make_runner: Any, diary: Any
) -> None:
    sweep = make_sweep(GRID)
    make_runner(sweep).run()
    before = diary()
    again = make_runner(sweep)
    assert again.run().done_before == 3
    assert diary() == before
    (again.folder.path / "0001" / "results.json").unlink()
    third = make_runner(sweep).run()
    assert [trial.index for trial in third.finished] == [1]
    assert events(diary(), "done") == {"0000": 1, "0001": 2, "0002": 1}


def test_a_failed_run_says_why_and_is_tried_again(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    sweep = make_sweep({"fails": {"values": [False, True]}, "epochs": {"value": 1}})
    runner = make_runner(sweep)
    outcome = runner.run()
    assert [trial.reason for trial in outcome.failed] == ["this cannot work -> do something else"]
    assert runner.said[-1].startswith("[2/2] fails=True: failed: this cannot work")
    again = make_runner(sweep).run()
    assert (again.done_before, len(again.failed)) == (1, 1)
    assert again.failed[0].attempts == 2
    assert events(diary(), "begin") == {"0000": 1, "0001": 2}


def test_a_run_that_is_killed_is_a_failure_with_its_signal(make_sweep: Any, make_runner: Any) -> None:
    outcome = make_runner(make_sweep({"dies": {"value": True}, "x": {"values": [1]}})).run()
    assert [trial.reason for trial in outcome.failed] == ["was killed by SIGKILL"]


def test_when_the_first_runs_all_fail_the_rest_is_not_begun(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    sweep = make_sweep({"fails": {"value": True}, "x": {"values": list(range(9))}})
    with pytest.raises(ConfigError, match=r"the first 3 runs failed.*this cannot work") as error:
        make_runner(sweep).run()
    assert "log.txt" in str(error.value)
    assert len(events(diary(), "begin")) == 3


def test_what_cannot_go_on_from_its_checkpoint_starts_anew(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    sweep = make_sweep(GRID)
    runner = make_runner(sweep)
    trial = runner.folder.add(0, {"quality": 1, "epochs": 2})
    (trial.folder / "checkpoints").mkdir()
    (trial.folder / "checkpoints" / "last.ckpt").write_text("spoilt")
    (trial.folder / "metrics.csv").write_text("epoch,val/t2v/R@1\n1,99\n")
    outcome = runner.run()
    assert len(outcome.finished) == 3
    assert any("could not go on (last.ckpt: is cut off); starting it anew" in line for line in runner.said)
    assert runner.folder.trials()[0].history("val/t2v/R@1") == [1.0, 2.0]


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_what_fails_of_something_else_keeps_its_checkpoint(make_sweep: Any, make_runner: Any, how: str) -> None:
    runner = make_runner(make_sweep({how: {"value": True}, "epochs": {"value": 3}}))
    trial = runner.folder.add(0, {"epochs": 3, how: True})
    (trial.folder / "checkpoints").mkdir()
    (trial.folder / "checkpoints" / "last.ckpt").write_text("2")
    outcome = runner.run()
    assert [one.attempts for one in outcome.failed] == [1]  # and the next call goes on from there
    assert (trial.folder / "checkpoints" / "last.ckpt").read_text() == "2"


def test_a_smaller_count_leaves_the_runs_beyond_it(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    sweep = make_sweep({**GRID, "epochs": {"value": 1}})
    runner = make_runner(sweep, count=1)
    for index in range(3):
        runner.folder.add(index, {"quality": index + 1, "epochs": 1})
    assert len(runner.run().finished) == 1
    assert events(diary(), "begin") == {"0000": 1}


def test_on_a_full_disk_all_runs_are_ended(make_sweep: Any, make_runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner(make_sweep({**GRID, "seconds": {"value": 30}}), jobs=2)
    assert runner._start_what_fits()
    processes = [one.process for one in runner._running]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("centerclip_pl.sweeps.trials.Trial.saved", full)
    runner._end_all()
    assert len(processes) == 2
    assert all(process.poll() is not None for process in processes)


def test_a_search_by_a_metric_that_no_run_has_ends_after_the_first(
    make_sweep: Any, make_runner: Any, diary: Any
) -> None:
    metric = {"name": "val/t2v/R1", "goal": "maximize"}
    sweep = make_sweep({"quality": {"min": 0.0, "max": 1.0}, "epochs": {"value": 1}}, method="bayes", metric=metric)
    with pytest.raises(ConfigError, match=r"(?s)goes by val/t2v/R1, which .*did you mean val/t2v/R@1\?") as error:
        make_runner(sweep, count=5).run()
    assert "metrics.csv" in str(error.value)
    assert len(events(diary(), "begin")) == 1


def test_random_search_ends_at_its_count(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    sweep = make_sweep({"quality": {"min": 0.0, "max": 1.0}, "epochs": {"value": 1}}, method="random")
    with pytest.raises(ConfigError, match="--count"):
        make_runner(sweep)
    assert len(make_runner(sweep, count=3).run().finished) == 3
    more = make_runner(sweep, count=4).run()
    assert (more.done_before, len(more.finished)) == (3, 1)
    assert events(diary(), "done") == {f"000{n}": 1 for n in range(4)}


def test_a_grid_can_be_cut_short(make_sweep: Any, make_runner: Any) -> None:
    runner = make_runner(make_sweep(GRID), count=2)
    assert (runner.total, len(runner.run().finished)) == (2, 2)


def test_hyperband_ends_the_worst_and_keeps_what_it_found(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    sweep = make_sweep(
        {"quality": {"values": [9, 8, 7, 1]}, "epochs": {"value": 60}, "seconds": {"value": 0.1}},
        early_terminate={"type": "hyperband", "min_iter": 3, "eta": 2},
    )
    runner = make_runner(sweep, jobs=4, poll=0.02)
    outcome = runner.run()
    stopped_early = {trial.parameters["quality"] for trial in outcome.stopped}
    finished = {trial.parameters["quality"] for trial in outcome.finished}
    assert (1 in stopped_early, 9 in finished) == (True, True)
    assert (stopped_early | finished, outcome.failed) == ({1, 7, 8, 9}, [])
    stopped = runner.folder.trials()[3]
    assert (stopped.state, stopped.folder.joinpath("results.json").exists()) == ("stopped", False)
    assert make_runner(sweep).run().done_before == 4  # a stopped run is not begun again


def test_two_calls_do_not_work_in_one_folder(make_sweep: Any, make_runner: Any) -> None:
    sweep = make_sweep(GRID)
    first = make_runner(sweep)
    with first._alone():
        with pytest.raises(ConfigError, match="another call of centerclip sweep works in"):
            make_runner(sweep).run()


def test_a_run_that_is_still_going_is_waited_for(make_sweep: Any, make_runner: Any, diary: Any) -> None:
    sweep = make_sweep(GRID)
    runner = make_runner(sweep)
    trial = runner.folder.add(0, {"quality": 1, "epochs": 2})
    lock = TrialLock(trial)  # as a process holds it whose starter was killed
    orphan = subprocess.Popen(
        [sys.executable, "-S", str(FAKE), "train", "--epochs=2", "--seconds=0.4", f"--run_dir={trial.folder}"],
        pass_fds=(lock.descriptor,),
    )
    lock.close()
    outcome = runner.run()
    orphan.wait()
    assert len(outcome.finished) == 3
    assert "still running, from an earlier call" in runner.said[0]
    assert events(diary(), "begin") == {"0000": 1, "0001": 1, "0002": 1}
    assert events(diary(), "overlap") == {}


SWEEP = """
import sys
from centerclip_pl.sweeps.engine import engine
from centerclip_pl.sweeps.running import SweepInterrupted, SweepRunner
from centerclip_pl.sweeps.sweep_file import read_sweep
from centerclip_pl.sweeps.trials import SweepFolder

engine()  # so that what follows "ready" is the work
file, path, fake = sys.argv[1:]
sweep, folder = read_sweep(file), SweepFolder(path)
folder.claim(sweep)
print("ready", flush=True)
try:
    SweepRunner(sweep, folder, jobs=2, poll=0.02, patience=5, program=(sys.executable, "-S", fake)).run()
except SweepInterrupted:
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "calls"), [(signal.SIGKILL, 4), pytest.param(signal.SIGTERM, 1, marks=pytest.mark.soak)]
)
def test_a_sweep_that_is_killed_at_random_moments_loses_nothing(
    write_sweep: Any, tmp_path: Path, diary: Any, number: int, calls: int
) -> None:
    grid = {"quality": {"values": [1, 2, 3, 4, 5, 6]}, "epochs": {"value": 4}, "seconds": {"value": 0.2}}
    command = [sys.executable, "-c", SWEEP, str(write_sweep(grid)), str(tmp_path / "runs"), str(FAKE)]
    chance = random.Random(int(number))
    kills = 0
    for _ in range(calls):
        sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert sweep.stdout is not None
        assert sweep.stdout.readline() == "ready\n", sweep.stderr.read() if sweep.stderr else ""
        try:
            sweep.wait(timeout=chance.uniform(0.1, 0.9))
        except subprocess.TimeoutExpired:
            sweep.send_signal(number)
            kills += 1
        rest, errors = sweep.communicate()
        if sweep.returncode == 0:
            break
        assert sweep.returncode == (-number if number == signal.SIGKILL else 130), rest + errors
    else:  # the last call may take as long as it needs
        assert subprocess.run(command, stdout=subprocess.DEVNULL, check=True).returncode == 0
    assert kills >= 1
    lines = diary()
    assert events(lines, "overlap") == {}  # no run was ever worked on by two
    assert set(events(lines, "done")) == {f"000{n}" for n in range(6)}
    assert max(events(lines, "begin").values()) <= 1 + kills
    trials = SweepFolder(tmp_path / "runs").trials()
    assert [trial.state for trial in trials] == ["finished"] * 6
    assert [trial.parameters["quality"] for trial in trials] == [1, 2, 3, 4, 5, 6]
    for trial in trials:  # in whatever pieces, every epoch ran once after the last one that was kept
        assert trial.history("val/t2v/R@1")[-1] == 4 * trial.parameters["quality"]


def test_no_process_is_left_when_a_sweep_is_interrupted(write_sweep: Any, tmp_path: Path) -> None:
    grid = {"quality": {"values": [1, 2]}, "seconds": {"value": 30}}
    command = [sys.executable, "-c", SWEEP, str(write_sweep(grid)), str(tmp_path / "runs"), str(FAKE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sweep:
        pids = [tmp_path / "runs" / name / "pid" for name in ("0000", "0001")]
        deadline = time.monotonic() + 60
        while not all(pid.is_file() and pid.read_text() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.02)
        sweep.send_signal(signal.SIGTERM)
        assert sweep.wait() == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_what_a_run_finds_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("centerclip_pl.sweeps.running.usable_cores", lambda: 8)
    environment = trial_environment({"CENTERCLIP_RUN_DIR": "x", "CUDA_VISIBLE_DEVICES": "2,5"}, jobs=4, slot=3)
    assert environment == {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "5"}
    kept = {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "1"}
    assert trial_environment(kept, jobs=4, slot=3) == kept
    assert trial_environment({}, jobs=1, slot=0) == {"WANDB_MODE": "disabled"}
    mig = {"CUDA_VISIBLE_DEVICES": "MIG-1a/2/0, MIG-1a/3/0"}
    assert trial_environment(mig, jobs=2, slot=1)["CUDA_VISIBLE_DEVICES"] == "MIG-1a/3/0"


def test_the_gpus_of_a_container_are_counted_from_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("centerclip_pl.sweeps.running._DEVICES", tmp_path)
    for name in ("nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    slots = [trial_environment({}, jobs=3, slot=slot).get("CUDA_VISIBLE_DEVICES") for slot in range(3)]
    assert slots == ["0", "1", "0"]
