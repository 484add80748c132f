"""Kills trainings and lets the same command go on, until each is done; then compares with one that was never killed.

``python tests/resuming/killing.py --folder NEW --kills 20 --report FILE`` does it with the demo. Each run is a fork of
this process, which has imported everything: a start costs a tenth of a second instead of ten.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = REPOSITORY / "experiments"

# What differs from run to run by its nature.
TIMES = ("train/videos_per_second", "train/data_wait_share", "cost/")
LAST = "checkpoints/last.ckpt"


@dataclass(frozen=True)
class Setting:
    """A training: which options, and in how many steps and validations it comes."""

    name: str
    words: tuple[str, ...] = ()


SETTINGS = (
    Setting("k-medoids"),
    Setting("two workers, validation within the epoch", ("--data.num_workers=2", "--trainer.val_check_interval=0.5")),
    Setting("dropout and random tokens", ("--method=sparse", "--model.head=tightTransf", "--model.grad_cache=3")),
    Setting("accumulated gradients", ("--trainer.accumulate_grad_batches=2", "--model.optimizer.recipe=clip4clip")),
)


@dataclass
class Kill:
    """Where a run is killed; `arm` is called in its process."""

    name: str
    arm: Callable[[], None] = lambda: None
    seconds: float | None = None
    """From outside, so long after the start."""
    number: signal.Signals = signal.SIGKILL
    """Then the signal."""


def die(number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def in_call(
    owner: Any, name: str, call: int, after: bool = False, number: signal.Signals = signal.SIGKILL
) -> Callable[[], None]:
    """Dies in this call of a function, at its beginning or its end."""

    def arm() -> None:
        original, calls = getattr(owner, name), 0

        def counted(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and not after:
                die(number)
            result = original(*args, **options)
            if calls == call and after:
                die(number)
            return result

        setattr(owner, name, counted)

    return arm


def while_writing(number: int, share: float) -> Callable[[], None]:
    """Dies when a share of the `number`-th checkpoint is on the disk."""

    def arm() -> None:
        save, calls = torch.save, 0

        def partly(content: Any, file: Any, *args: Any, **options: Any) -> None:
            nonlocal calls
            calls += 1
            save(content, file, *args, **options)
            if calls == number:
                file.flush()
                file.truncate(int(share * file.tell()))
                os.fsync(file.fileno())
                die()

        torch.save = partly

    return arm


def moments(rng: random.Random, seconds: float, steps: int) -> list[Callable[[], Kill]]:
    """The kinds of moments, of each a random one."""
    from centerclip_pl import TextVideoRetrieval
    from centerclip_pl.training import checkpoint_files

    def step() -> int:
        return rng.randint(1, steps)

    return [
        lambda: Kill("at a random time", seconds=rng.uniform(0.0, seconds)),
        lambda: Kill("SIGTERM at a random time", seconds=rng.uniform(0.0, seconds), number=signal.SIGTERM),
        lambda: Kill("SIGINT at a random time", seconds=rng.uniform(0.0, seconds), number=signal.SIGINT),
        lambda: Kill("in a training step", in_call(TextVideoRetrieval, "batch_loss", step(), rng.random() < 0.5)),
        lambda: Kill("in an optimizer step", in_call(TextVideoRetrieval, "optimizer_step", step(), rng.random() < 0.5)),
        lambda: Kill("in a validation", in_call(TextVideoRetrieval, "validation_step", rng.randint(1, 6))),
        lambda: Kill("in writing a checkpoint", while_writing(rng.randint(1, steps), rng.random())),
        lambda: Kill("between two renames", in_call(checkpoint_files, "_sync_folder", rng.randint(1, steps))),
        lambda: Kill("in the test", in_call(TextVideoRetrieval, "test_step", 1)),
    ]


@dataclass
class Runs:
    """Runs of one setting, each in a folder of its own."""

    folder: Path
    setting: Setting
    options: list[str]
    named: bool = True
    """Whether the command names the run's folder; if not, it finds its unfinished run by itself."""
    timeout: float = 600.0

    def command(self, run_dir: Path) -> list[str]:
        """The words of the command line; the same each time."""
        named = [f"--run_dir={run_dir}"] if self.named else []
        return ["train", f"--experiments={EXPERIMENTS}", *self.options, *self.setting.words, *named]

    def start(self, run_dir: Path, kill: Kill | None = None) -> int:
        """Runs the command in a fork until it ends or is killed; returns its status, negative for a signal."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            self._be_a_run(run_dir, kill)
        deadline = time.monotonic() + self.timeout
        dies_at = None if kill is None or kill.seconds is None else time.monotonic() + kill.seconds
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            now = time.monotonic()
            if now > deadline:
                os.killpg(child, signal.SIGKILL)
                raise TimeoutError(f"{run_dir} did not end:\n{self.said(run_dir)}")
            if dies_at is not None and now >= dies_at:
                os.kill(child, kill.number if kill else signal.SIGKILL)
                dies_at = None
            time.sleep(0.005)

    def _be_a_run(self, run_dir: Path, kill: Kill | None) -> None:
        status = 1
        try:
            os.setsid()
            log = os.open(run_dir.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            run_dir.mkdir(exist_ok=True)
            os.chdir(run_dir)
            from centerclip_pl.cli import main

            if kill is not None:
                kill.arm()
            main(self.command(run_dir))
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    @staticmethod
    def said(run_dir: Path) -> str:
        """The last of what a run printed."""
        return run_dir.with_suffix(".log").read_text()[-4000:]

    def finish(self, run_dir: Path) -> None:
        """Runs the command without killing it."""
        status = self.start(run_dir)
        assert status == 0, f"{self.setting.name}: status {status}:\n{self.said(run_dir)}"


def was_stopped(status: int, kill: Kill) -> bool:
    """Whether a run ended as it should: killed, or by itself when it was asked to."""
    asked = {signal.SIGTERM: (143, -signal.SIGTERM), signal.SIGINT: (1, 130)}
    return status in asked.get(kill.number, (-signal.SIGKILL,))


def outcome(run_dir: Path) -> dict[str, Any]:
    """All that must come out the same: weights, the optimizer's state, the chosen weights, figures."""
    last = torch.load(run_dir / LAST, weights_only=True)
    best = torch.load(run_dir / "checkpoints/best.ckpt", weights_only=True)
    results = json.loads((run_dir / "results.json").read_text())
    rows = pd.read_csv(run_dir / "metrics.csv")
    rows = rows[[column for column in rows if not column.startswith(TIMES)]].dropna(how="all", axis=1)
    figures = [name for name in rows if name not in ("step", "epoch")]
    rows = rows.dropna(how="all", subset=figures)
    return {
        "step": last["global_step"],
        "weights": last["state_dict"],
        "optimizer": last["optimizer_states"],
        "rates": last["lr_schedulers"],
        "best weights": best["state_dict"],
        "best step": best["global_step"],
        "test": results["metrics"],
        "metrics.csv": {name: rows[["step", name]].dropna().values.tolist() for name in sorted(figures)},
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two outcomes differ in a single bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{where}: {sorted(map(str, one.keys() ^ other.keys()))} only in one"]
        return [d for key in one for d in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [f"{where}: differs by {(one - other).abs().max()}"]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{where}/{i}")]
    return [] if one == other else [f"{where}: {one} and {other}"]


def soak(folder: Path, options: list[str], kills: int, seed: int, settings: tuple[Setting, ...] = SETTINGS) -> Any:
    """Kills `kills` runs, each once, and compares.

    Returns:
        How often of each kind a run was killed, and what came out different.
    """
    rng = random.Random(seed)
    report: dict[str, Any] = {"kills": 0, "too_late": 0, "different": [], "moments": {}, "settings": {}}
    references: dict[str, tuple[Runs, dict[str, Any], float]] = {}
    number = 0
    while report["kills"] < kills and number < 3 * kills:
        setting = settings[number % len(settings)]
        if setting.name not in references:
            runs = Runs(folder, setting, options)
            reference = folder / f"reference-{len(references)}"
            began = time.monotonic()
            runs.finish(reference)
            references[setting.name] = runs, outcome(reference), time.monotonic() - began
        runs, expected, seconds = references[setting.name]
        kinds = moments(rng, seconds, 2 * expected["step"])
        kill = kinds[0 if number % 2 == 0 else 1 + (number // 2) % (len(kinds) - 1)]()
        run_dir = folder / f"run-{number}"
        number += 1
        status = runs.start(run_dir, kill)
        if status == 0:
            report["too_late"] += 1
        else:
            assert was_stopped(status, kill), f"{setting.name}, {kill.name}: status {status}:\n{runs.said(run_dir)}"
            report["kills"] += 1
            report["moments"][kill.name] = report["moments"].get(kill.name, 0) + 1
            report["settings"][setting.name] = report["settings"].get(setting.name, 0) + 1
            runs.finish(run_dir)
        found = differences(outcome(run_dir), expected)
        if found:
            report["different"].append({"setting": setting.name, "moment": kill.name, "run": str(run_dir), "in": found})
    return report


def chain(folder: Path, options: list[str], setting: Setting, kills: list[Kill]) -> dict[str, Any]:
    """Kills one run again and again, lets it finish, and compares.

    Returns:
        How each command ended, and what came out different.
    """
    runs = Runs(folder, setting, options, named=False)
    reference, killed = folder / "reference", folder / "killed"
    runs.finish(reference)
    ended = [(kill.name, runs.start(killed, kill)) for kill in kills]
    runs.finish(killed)
    (expected,), (found,) = (list(where.glob("runs/*/*/*/")) for where in (reference, killed))
    return {"ended": ended, "different": differences(outcome(found), outcome(expected)), "said": runs.said(killed)}


def prepare(root: Path, train: int, val: int, test: int) -> None:
    """Writes the demo's videos, in a fork, so that this process stays without threads."""
    child = os.fork()
    if child == 0:
        try:
            from centerclip_pl.data.demo.generate import generate

            generate(root, train=train, val=val, test=test, jobs=1)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def preload() -> None:
    """Imports what every run needs."""
    import wandb  # noqa: F401

    import centerclip_pl.cli.experiment
    import centerclip_pl.cli.lightning
    import centerclip_pl.data.demo  # noqa: F401


def common(root: Path, train: int, val: int, test: int, backbone: Path | None = None) -> list[str]:
    """Options of small trainings of the demo."""
    return [
        f"--data.root={root}",
        f"--data.train={train}",
        f"--data.val={val}",
        f"--data.test={test}",
        "--data.num_workers=1",
        "--wandb.enabled=false",
        "--resume.every_steps=1",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        *([f"--model.backbone={backbone}"] if backbone else []),
    ]


def short(folder: Path, backbone: Path, report: Path) -> None:
    """What `make test` has time for."""
    from centerclip_pl import TextVideoRetrieval

    sizes = 16, 6, 14
    prepare(folder / "demo", *sizes)
    options = [*common(folder / "demo", *sizes, backbone), "--data.batch_size=4", "--data.eval_batch_size=2"]
    options += ["--model.head=tightTransf", "--tokens.after_block=1", "--tokens.clusters=9"]
    kills = [
        Kill("in the second checkpoint", while_writing(2, 0.5)),
        Kill("in the first validation of the resumed run", in_call(TextVideoRetrieval, "validation_step", 2)),
        Kill("SIGTERM in a step", in_call(TextVideoRetrieval, "batch_loss", 1, number=signal.SIGTERM)),
        Kill("in the test", in_call(TextVideoRetrieval, "test_step", 2)),
    ]
    found = chain(folder, options, SETTINGS[1], kills)
    report.write_text(json.dumps(found))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--short", type=Path, metavar="BACKBONE", help="one run of this small model, killed often")
    given = parser.parse_args()
    torch.set_num_threads(1)
    preload()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.short is not None:
        short(given.folder.resolve(), given.short, given.report)
        return
    prepare(given.folder / "demo", 48, 12, 14)
    options = [*common(given.folder.resolve() / "demo", 48, 12, 14), "--data.batch_size=6"]
    options += ["--data.eval_batch_size=4"]
    report = soak(given.folder.resolve(), options, given.kills, given.seed)
    text = json.dumps(report, indent=2)
    print(text)
    if given.report is not None:
        given.report.write_text(text + "\n")
    sys.exit(1 if report["different"] else 0)


if __name__ == "__main__":
    main()
