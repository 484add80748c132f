"""Runs a sweep on this machine: some processes at a time, as the search proposes, until nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import FrameType

from centerclip_pl.cores import usable_cores
from centerclip_pl.errors import ConfigError
from centerclip_pl.files import try_lock
from centerclip_pl.sweeps import process, search
from centerclip_pl.sweeps.process import TrialLock, TrialProcess
from centerclip_pl.sweeps.sweep_file import Sweep
from centerclip_pl.sweeps.trials import SweepFolder, Trial, current_state

_HOPELESS = 3
_DEVICES = Path("/dev")


class SweepInterrupted(Exception):
    """The user (or the machine) asked the sweep to end."""


@dataclass
class Outcome:
    """How a call ended; lists of trials."""

    finished: list[Trial] = field(default_factory=list)
    stopped: list[Trial] = field(default_factory=list)
    failed: list[Trial] = field(default_factory=list)
    done_before: int = 0


class SweepRunner:
    """Does what is left of a sweep.

    A run that was interrupted goes on in its folder, from its last checkpoint. One that a killed call of this program
    has left running is waited for. One that failed in an earlier call is tried again.

    Args:
        sweep: what to run.
        folder: where.
        jobs: processes at a time.
        count: of random and bayes: how many runs in all; of a grid: at most so many.
        seed: of random choices.
        say: takes a line for the user.
        patience: seconds that a run has to write a checkpoint when it is asked to end.
        poll: seconds between looks at the processes.
        program: what is started for a run.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: SweepFolder,
        *,
        jobs: int = 1,
        count: int | None = None,
        seed: int = 0,
        say: Callable[[str], None] = print,
        patience: float = 30.0,
        poll: float = 0.5,
        program: Sequence[str] = process.PROGRAM,
    ) -> None:
        self.sweep, self.folder = sweep, folder
        self.jobs, self.seed, self.say, self.patience, self.poll = jobs, seed, say, patience, poll
        self.program = program
        self.total = search.total_runs(sweep, count)
        self._trials: dict[int, Trial] = {}
        self._queue: list[Trial] = []
        self._running: list[TrialProcess] = []
        self._elsewhere: list[tuple[Trial, TrialLock]] = []
        self._outcome = Outcome()
        self._looked = 0.0
        self._exhausted = False

    def run(self) -> Outcome:
        """Runs until nothing is left.

        Raises:
            ConfigError: another call works in the folder, or the first runs all failed.
            SweepInterrupted: SIGINT or SIGTERM; the runs have been asked to end and can go on with the next call.
        """
        with self._alone(), _interruptible():
            try:
                self._look_around()
                while self._start_what_fits() or self._running or self._elsewhere:
                    time.sleep(self.poll)
                    self._collect()
                    self._stop_early()
            finally:
                self._end_all()
        return self._outcome

    def _look_around(self) -> None:
        for trial in self.folder.trials():
            lock = TrialLock(trial)
            if not lock.held:
                self._elsewhere.append((trial, lock))
                self._trials[trial.index] = trial.saved(state="running")
                self.say(f"{self._name(trial)}: is still running, from an earlier call; waiting for it")
                continue
            lock.close()
            found = current_state(trial)
            if found.state != trial.state:
                found = found.saved()
            self._trials[trial.index] = found
            if found.state in ("finished", "stopped"):
                self._outcome.done_before += 1
            elif found.index < self.total:  # an earlier call may have had a larger --count
                self._queue.append(found)
        if self._outcome.done_before:
            self.say(f"{self._outcome.done_before} runs are done already, in {self.folder.path}")

    def _start_what_fits(self) -> bool:
        """Whether there was something to start, or is something left to start."""
        while len(self._running) + len(self._elsewhere) < self.jobs:
            trial = self._queue.pop(0) if self._queue else self._propose()
            if trial is None:
                return False
            self._start(trial)
        return True

    def _propose(self) -> Trial | None:
        if self._exhausted or len(self._trials) >= self.total:
            return None
        trials = [self._trials[index] for index in sorted(self._trials)]
        parameters = search.next_parameters(self.sweep, trials, self.seed)
        if parameters is None:
            self._exhausted = True
            return None
        return self.folder.add(max(self._trials, default=-1) + 1, parameters)

    def _start(self, trial: Trial) -> None:
        lock = TrialLock(trial)
        if not lock.held:
            self._elsewhere.append((trial, lock))
            return
        trial = trial.saved(state="running", attempts=trial.attempts + 1, reason=None)
        self._trials[trial.index] = trial
        taken = {one.slot for one in self._running}
        slot = next(number for number in range(self.jobs) if number not in taken)
        environment = trial_environment(os.environ, self.jobs, slot)
        words = self.sweep.words(trial.parameters)
        self._running.append(process.start(trial, words, lock, environment, slot, self.program))

    def _collect(self) -> None:
        for one in list(self._running):
            status = one.process.poll()
            if status is not None:
                self._running.remove(one)
                one.lock.close()
                self._conclude(one, status)
        for trial, lock in list(self._elsewhere):
            if lock.try_again():
                lock.close()
                self._elsewhere.remove((trial, lock))
                self._trials[trial.index] = found = current_state(trial).saved()
                if found.state == "finished":
                    self._note(found, None)
                else:
                    self._queue.insert(0, found)

    def _conclude(self, one: TrialProcess, status: int) -> None:
        found = current_state(one.trial)
        if found.state == "finished":
            self._note(found.saved(), one.seconds)
        elif one.stopping:
            self._note(found.saved(state="stopped"), one.seconds)
        elif one.resumed and process.blames_checkpoint(found, status):
            # The figures of the first epochs come again. The checkpoints go last: until then a new call finds them.
            self.say(f"{self._name(found)}: could not go on ({process.failure(found, status)}); starting it anew")
            (found.folder / "metrics.csv").unlink(missing_ok=True)
            shutil.rmtree(found.folder / "checkpoints", ignore_errors=True)
            self._queue.insert(0, found)
            self._trials[found.index] = found.saved(state="left")
        else:
            self._note(found.saved(state="failed", reason=process.failure(found, status)), one.seconds)

    def _note(self, trial: Trial, seconds: float | None) -> None:
        self._trials[trial.index] = trial
        lists = {"finished": self._outcome.finished, "stopped": self._outcome.stopped, "failed": self._outcome.failed}
        lists[trial.state].append(trial)
        self.say(f"{self._name(trial)}: {_result(self.sweep, trial)}" + (f", {seconds:.0f} s" if seconds else ""))
        self._check_metric(trial)
        done = self._outcome
        if len(done.failed) == _HOPELESS and not (done.finished or done.stopped or done.done_before):
            raise ConfigError(
                f"the first {_HOPELESS} runs failed, so the rest was not begun: {trial.reason}",
                f"{trial.folder / process.LOG_FILE} says more; the same command goes on when the reason is gone",
            )

    def _check_metric(self, trial: Trial) -> None:
        goes_by_it = self.sweep.method == "bayes" or "early_terminate" in self.sweep.config
        if trial.state != "finished" or not goes_by_it or trial.history(str(self.sweep.metric)):
            return
        logged = trial.logged()
        near = get_close_matches(str(self.sweep.metric), logged, n=1)
        raise ConfigError(
            f"the search goes by {self.sweep.metric}, which {trial.folder / 'metrics.csv'} does not have",
            (f"did you mean {near[0]}? " if near else "") + f"logged are {', '.join(logged)}",
        )

    def _stop_early(self) -> None:
        if "early_terminate" not in self.sweep.config or time.monotonic() - self._looked < 10 * self.poll:
            return
        self._looked = time.monotonic()
        trials = [self._trials[index] for index in sorted(self._trials)]
        ended = {trial.index for trial in search.to_stop(self.sweep, trials)}
        for one in self._running:
            if one.trial.index in ended and not one.stopping:
                one.ask_to_stop()

    def _end_all(self) -> None:
        for one in self._running:  # all are asked before any is waited for
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGTERM)
        for one in self._running:
            one.end(self.patience)
            with suppress(OSError):  # a full disk: the folder says how far the run is, and the others must end
                current_state(one.trial).saved()
        self._running.clear()
        for _, lock in self._elsewhere:
            lock.close()

    def _name(self, trial: Trial) -> str:
        number = f"{trial.index + 1}/{self.total}"
        return f"[{number}] {trial.describe(self.sweep.varied)}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        file = os.open(self.folder.path / ".sweep.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(file, self.folder.path):
                raise ConfigError(
                    f"another call of centerclip sweep works in {self.folder.path}",
                    "let it end, or name another folder with --folder=FOLDER",
                )
            yield
        finally:
            os.close(file)


def trial_environment(given: Mapping[str, str], jobs: int, slot: int) -> dict[str, str]:
    """What a run's process gets: its share of the cores, its GPU where there are several, no W&B unless asked for.

    Args:
        given: the environment of this process; what it sets is kept.
        jobs: processes at a time.
        slot: the run's place among those, from 0.
    """
    environment = dict(given)
    # A sweep without an account has no use for offline logs of every run; WANDB_MODE=offline keeps them.
    environment.setdefault("WANDB_MODE", "disabled")
    environment.pop("CENTERCLIP_RUN_DIR", None)
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // jobs)))
        gpus = _gpus(environment)
        if len(gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _gpus(environment: Mapping[str, str]) -> Sequence[str]:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    # CUDA counts those that it sees from 0, whatever they are called: a container may have nvidia2 and nvidia3 alone.
    return [str(number) for number, _ in enumerate(_DEVICES.glob("nvidia[0-9]*"))]


def _result(sweep: Sweep, trial: Trial) -> str:
    if trial.state == "failed":
        return f"failed: {trial.reason}"
    from centerclip_pl.training.results import read_results

    values = [] if sweep.metric is None else trial.history(sweep.metric)
    best = (max if sweep.maximizes else min)(values) if values else None
    said = [] if best is None else [f"{sweep.metric} {best:.4g}"]
    if trial.state == "stopped":
        return ", ".join(["stopped early by the search", *said])
    metrics = read_results(trial.folder / "results.json")["metrics"]
    said += [f"{name} {metrics[name]:.4g}" for name in ("test/t2v/R@1", "test/v2t/R@1") if name in metrics]
    return ", ".join(said)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM, as SLURM and service managers send it, ends the sweep as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise SweepInterrupted(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
