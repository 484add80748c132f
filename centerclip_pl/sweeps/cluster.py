"""A sweep as a SLURM job array, by the library submitit: one array task a run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps import process, search
from centerclip_pl.sweeps.process import TrialLock, TrialProcess
from centerclip_pl.sweeps.running import trial_environment
from centerclip_pl.sweeps.sweep_file import Sweep, read_sweep
from centerclip_pl.sweeps.trials import SWEEP_FILE, SweepFolder, Trial, current_state

DEFAULTS: dict[str, Any] = {"time": 12 * 60, "nodes": 1, "gpus_per_node": 1, "cpus_per_task": 8}
_PATIENCE = 60.0  # SLURM kills 90 seconds after it has warned, as submitit asks it to


def plan(sweep: Sweep, folder: SweepFolder, count: int | None, seed: int) -> list[Trial]:
    """Writes down every trial that a sweep will have, and returns those that are left to do.

    Raises:
        ConfigError: the search chooses a run by the results of others, or how many runs there are is not known.
    """
    total = number_of_runs(sweep, count)
    trials = folder.trials()
    while len(trials) < total:
        parameters = search.next_parameters(sweep, trials, seed)
        if parameters is None:
            break
        trials.append(folder.add(len(trials), parameters))
    return [trial for trial in map(current_state, trials[:total]) if trial.state not in ("finished", "stopped")]


def number_of_runs(sweep: Sweep, count: int | None) -> int:
    """How many runs a sweep has, all of which can be planned before the first begins.

    Raises:
        ConfigError: as :func:`plan`.
    """
    if sweep.method == "bayes" or "early_terminate" in sweep.config:
        what = "method bayes" if sweep.method == "bayes" else "early_terminate"
        raise ConfigError(
            f"{what} decides by the results of other runs, which the tasks of a job array do not wait for",
            "use `wandb agent` on each machine, or one job with: centerclip sweep FILE --offline --jobs N",
        )
    return search.total_runs(sweep, count)


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """``["time=120", "partition=gpu"]`` -> settings of submitit's SLURM executor.

    A name that submitit does not have is handed to sbatch as it is (``reservation=x`` is ``#SBATCH --reservation=x``).

    Raises:
        ConfigError: a word without ``=``, or a value that submitit refuses.
    """
    import submitit

    known = submitit.SlurmExecutor._valid_parameters()
    settings, others = dict(DEFAULTS), dict[str, Any]()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ConfigError(
                f"--slurm {word!r} is no setting", "write NAME=VALUE, e.g. --slurm time=120 partition=gpu"
            )
        (settings if name in known else others)[name] = int(value) if value.isdecimal() else value
    if settings["gpus_per_node"] == 0:
        del settings["gpus_per_node"]  # sbatch on a cluster without GPUs refuses the option
    return {**settings, **({"additional_parameters": others} if others else {})}


def batch_file(folder: Path, settings: Mapping[str, Any], runs: int, jobs: int) -> str:
    """What `submit` would hand to sbatch, but for the pickled function's name."""
    from submitit.slurm.slurm import _make_sbatch_string

    try:
        return _make_sbatch_string(
            command=f"{sys.executable} -u -m submitit.core._submit {folder / 'slurm'}",
            folder=folder / "slurm",
            map_count=runs,
            **{"job_name": "centerclip", "array_parallelism": jobs, **settings},
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"SLURM's settings cannot be used: {error}", "see --slurm") from error


def check_slurm() -> None:
    """Refuses a machine that cannot submit jobs.

    Raises:
        ConfigError: it has no ``sbatch`` or no ``srun``.
    """
    if shutil.which("srun") is None or shutil.which("sbatch") is None:
        raise ConfigError(
            "there is no SLURM on this machine (no sbatch and srun)",
            "run the command on a login node, or print the array with --dry_run",
        )


def submit(sweep: Sweep, trials: Sequence[Trial], folder: Path, settings: Mapping[str, Any], jobs: int) -> list[str]:
    """Submits an array with a task for each trial; at most ``jobs`` run at a time.

    Returns:
        The ids of the tasks.

    Raises:
        ConfigError: there is no SLURM here, or it refused the job.
    """
    import submitit

    check_slurm()
    executor = submitit.SlurmExecutor(folder=folder / "slurm", max_num_timeout=3)
    try:
        executor.update_parameters(**{"job_name": "centerclip", "array_parallelism": jobs, **settings})
        tasks = executor.map_array(TrialTask(), [str(folder)] * len(trials), [trial.index for trial in trials])
    except (TypeError, ValueError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise ConfigError(f"SLURM refused the array: {error}", "change its settings with --slurm NAME=VALUE") from error
    return [str(task.job_id) for task in tasks]


class TrialTask:
    """What a task of the array does: one trial, which goes on in another task where SLURM's time was too short.

    Asked to end (timeout or preemption), submitit calls :meth:`checkpoint` and has SLURM queue the task again.
    """

    def __init__(self) -> None:
        self.directory = Path.cwd()  # paths in the sweep's words are relative to the folder where it was submitted
        self._running: TrialProcess | None = None

    def __call__(self, folder: str, index: int) -> str:
        """See :func:`run_trial`."""
        os.chdir(self.directory)
        return run_trial(folder, index, self._begun)

    def checkpoint(self, folder: str, index: int) -> Any:
        """Lets the run write its checkpoint and end; returns what the queued task is to do: the same."""
        from submitit.helpers import DelayedSubmission

        if self._running is not None:
            self._running.end(_PATIENCE)
            self._running = None
        return DelayedSubmission(self, folder, index)

    def _begun(self, running: TrialProcess) -> None:
        self._running = running


def run_trial(folder: str, index: int, begun: Callable[[TrialProcess], None] = lambda _: None) -> str:
    """Does one trial of a sweep's folder, in an array's task; returns the state that it ended in.

    Raises:
        RuntimeError: the run failed; SLURM then shows the task as failed.
    """
    sweep = read_sweep(Path(folder) / SWEEP_FILE)
    trial = current_state(next(trial for trial in SweepFolder(folder).trials() if trial.index == index))
    if trial.state in ("finished", "stopped"):
        return trial.state
    lock = TrialLock(trial)
    if not lock.held:
        return "running"  # another task, or a runner, has it
    trial = trial.saved(state="running", attempts=trial.attempts + 1, reason=None)
    environment = trial_environment(os.environ, jobs=1, slot=0)
    # With it Lightning would take each GPU's process for a task of srun's, which there is only one of. Without it, it
    # starts them itself.
    environment.pop("SLURM_NTASKS", None)
    running = process.start(trial, sweep.words(trial.parameters), lock, environment)
    begun(running)
    status = running.process.wait()
    found = current_state(trial)
    if found.state == "finished":
        return found.saved().state
    reason = process.failure(trial, status)
    found.saved(state="failed", reason=reason)
    raise RuntimeError(f"run {index} failed: {reason}; see {trial.folder / process.LOG_FILE}")
