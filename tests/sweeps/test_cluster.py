from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps import cluster, process
from centerclip_pl.sweeps.trials import SweepFolder

GRID = {"quality": {"values": [1, 2, 3]}, "epochs": {"value": 2}}
FAKE = Path(__file__).with_name("fake_training.py")
SBATCH = """#!/bin/sh
cp "$1" "{folder}/received.sh"
echo "Submitted batch job 4711"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sbatch and srun that only take the file; it is in ``received.sh``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=tmp_path)), ("srun", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "runs")


def test_an_array_has_a_task_for_every_run_that_is_left(
    make_sweep: Any, folder: SweepFolder, slurm: Path, write_run: Any
) -> None:
    sweep = make_sweep(GRID)
    folder.claim(sweep)
    trials = cluster.plan(sweep, folder, count=None, seed=0)
    assert [trial.parameters["quality"] for trial in trials] == [1, 2, 3]
    write_run(trials[1].folder)  # done since
    left = cluster.plan(sweep, folder, count=None, seed=0)
    assert [trial.index for trial in left] == [0, 2]
    settings = cluster.parse_settings(["time=90", "partition=gpu", "gpus_per_node=2", "reservation=night"])
    ids = cluster.submit(sweep, left, folder.path, settings, jobs=1)
    assert ids == ["4711_0", "4711_1"]
    text = (slurm / "received.sh").read_text()
    for line in ("--array=0-1%1", "--time=90", "--partition=gpu", "--gpus-per-node=2", "--reservation=night"):
        assert f"#SBATCH {line}\n" in text
    assert "#SBATCH --cpus-per-task=8\n" in text


def test_the_file_is_printed_without_slurm(tmp_path: Path) -> None:
    text = cluster.batch_file(tmp_path, cluster.parse_settings(["time=60", "gpus_per_node=0"]), runs=6, jobs=3)
    assert text.startswith("#!/bin/bash")
    assert "#SBATCH --array=0-5%3" in text
    assert "#SBATCH --time=60" in text
    assert "gpus" not in text
    with pytest.raises(ConfigError, match="SLURM's settings cannot be used"):
        cluster.batch_file(tmp_path, {"folder_of_mine": 1}, runs=6, jobs=3)


def test_a_task_does_its_run_and_leaves_the_others(
    make_sweep: Any, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.start, "__defaults__", (0, (sys.executable, "-S", str(FAKE))))
    sweep = make_sweep(GRID)
    folder.claim(sweep)
    cluster.plan(sweep, folder, count=None, seed=0)
    assert cluster.run_trial(str(folder.path), 1) == "finished"
    assert [trial.state for trial in folder.trials()] == ["left", "finished", "left"]
    assert cluster.run_trial(str(folder.path), 1) == "finished"  # a requeued task
    assert (folder.path / "diary.txt").read_text() == "begin 0001\ndone 0001\n"


def test_a_task_that_slurm_ends_goes_on_when_it_is_queued_again(
    make_sweep: Any, folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.start, "__defaults__", (0, (sys.executable, "-S", str(FAKE))))
    monkeypatch.setenv("SLURM_NTASKS", "1")  # Lightning would not start a process for each of two GPUs
    begun: list[process.TrialProcess] = []
    sweep = make_sweep({"quality": {"value": 1}, "epochs": {"value": 2}})
    folder.claim(sweep)
    cluster.plan(sweep, folder, count=None, seed=0)
    monkeypatch.chdir(tmp_path)
    task = pickle.loads(pickle.dumps(cluster.TrialTask()))
    monkeypatch.chdir("/")
    given: list[dict[str, str]] = []
    start = process.start

    def waits(trial: Any, words: Any, lock: Any, environment: dict[str, str], *more: Any) -> process.TrialProcess:
        given.append(environment)
        running = start(trial, [*words, "--seconds=30"] if not begun else words, lock, environment, *more)
        begun.append(running)
        if len(begun) == 1:  # as submitit's handler of the signal does, before the task waits for its run
            task._running = running
            again = task.checkpoint(str(folder.path), 0)
            assert again.function is task
            assert again.args == (str(folder.path), 0)
            assert running.process.poll() is not None
            raise TimeoutError
        return running

    monkeypatch.setattr(process, "start", waits)
    with pytest.raises(TimeoutError):
        task(str(folder.path), 0)
    assert Path.cwd() == tmp_path
    begun[0].process.wait()
    assert task(str(folder.path), 0) == "finished"
    assert all("SLURM_NTASKS" not in environment for environment in given)


def test_a_task_whose_run_fails_fails(make_sweep: Any, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.start, "__defaults__", (0, (sys.executable, "-S", str(FAKE))))
    sweep = make_sweep({"fails": {"values": [True]}})
    folder.claim(sweep)
    cluster.plan(sweep, folder, count=None, seed=0)
    with pytest.raises(RuntimeError, match="run 0 failed: this cannot work"):
        cluster.run_trial(str(folder.path), 0)
    assert folder.trials()[0].state == "failed"


def test_random_runs_are_all_drawn_before(make_sweep: Any, folder: SweepFolder) -> None:
    sweep = make_sweep({"quality": {"min": 0.0, "max": 1.0}}, method="random")
    folder.claim(sweep)
    with pytest.raises(ConfigError, match="--count"):
        cluster.plan(sweep, folder, count=None, seed=0)
    drawn = [trial.parameters for trial in cluster.plan(sweep, folder, count=4, seed=0)]
    assert len(drawn) == 4
    assert [trial.parameters for trial in cluster.plan(sweep, folder, count=4, seed=0)] == drawn


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"method": "bayes"}, "method bayes decides by the results of other runs"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1}}, "early_terminate decides by the results"),
    ],
)
def test_a_search_that_needs_results_is_no_array(
    make_sweep: Any, folder: SweepFolder, sections: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        cluster.plan(make_sweep(GRID, **sections), folder, count=3, seed=0)


def test_settings_and_a_machine_without_slurm(
    make_sweep: Any, folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("partition", "=gpu"):
        with pytest.raises(ConfigError, match="is no setting"):
            cluster.parse_settings([word])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no SLURM on this machine"):
        cluster.submit(make_sweep(GRID), [], folder.path, {}, jobs=1)
