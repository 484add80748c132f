"""``sweep``: runs a W&B sweep file, in a W&B project or on this machine alone."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    from centerclip_pl.sweeps.running import Outcome
    from centerclip_pl.sweeps.sweep_file import Sweep
    from centerclip_pl.sweeps.trials import SweepFolder

_DESCRIPTION = """Runs a sweep file in W&B's format. With a W&B key the sweep is made in W&B and this machine works on
it (`wandb agent` elsewhere helps); without one, or with --offline, the same search runs here, one run a process, and
what a killed call has left undone is done by the next one. All further options are those of `centerclip fit --help` and
go to every run, such as --trainer.max_epochs=1."""


def sweep_command(words: list[str]) -> None:
    """Runs a sweep.

    Args:
        words: behind ``centerclip sweep``.

    Raises:
        ConfigError: the file or an option cannot work, or the first runs all failed.
        SystemExit: status 1 if runs failed, 130 if the sweep was interrupted.
    """
    options, rest = _parser().parse_known_args(words)
    if options.offline and options.online:
        raise ConfigError("--offline and --online were both given", "choose one")
    for name in ("jobs", "count"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ConfigError(f"--{name} is {getattr(options, name)}", "give at least 1")
    from centerclip_pl.sweeps.sweep_file import read_sweep

    sweep = read_sweep(find_sweep(options.sweep, options.dataset, Path(options.experiments)))
    if options.dataset is not None:
        sweep = sweep.with_value("dataset", options.dataset)
    elsewhere = [f"--experiments={options.experiments}"] if options.experiments != "experiments" else []
    sweep = sweep.with_words([*elsewhere, *rest])
    _check_values(sweep)
    if options.launcher == "slurm":
        _on_slurm(sweep, options)
    elif options.dry_run:
        _print_plan(sweep, options.count)
    elif _is_online(options):
        _online(sweep, options)
    else:
        _here(sweep, options)


def find_sweep(name: str, dataset: str | None, experiments: Path) -> Path:
    """The file of a sweep: a path, or a name in ``experiments/sweeps/DATASET`` or ``experiments/sweeps``.

    Raises:
        ConfigError: there is none; it says which there are.
    """
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"there is no file {name} in {Path.cwd()}", "name a sweep file, or a sweep: segments")
    from difflib import get_close_matches

    folder = experiments / "sweeps"
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder} in {Path.cwd()}",
            "run the command in the repository's folder, or name the folder: --experiments=FOLDER",
        )
    places = [folder / dataset] if dataset is not None else []
    for place in [*places, folder]:
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    known = sorted({file.stem for place in [*places, folder] for file in place.glob("*.yaml")})
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"there is no sweep {name!r} below {folder}", f"{hint}sweeps here: {', '.join(known)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="centerclip sweep",
        usage="centerclip sweep SWEEP [--dataset NAME] [--offline] [--jobs N] [OPTIONS OF TRAIN]",
        allow_abbrev=False,
        description=_DESCRIPTION,
    )
    parser.add_argument("sweep", metavar="SWEEP", help="a file, or the name of one in experiments/sweeps[/DATASET]")
    parser.add_argument("--dataset", help="in place of the one that the file names")
    parser.add_argument("--offline", action="store_true", help="run the search here, without W&B")
    parser.add_argument("--online", action="store_true", help="in W&B; an error where there is no key")
    parser.add_argument("--project", help="of W&B; default: the file's, or centerclip_pl")
    parser.add_argument("--entity", help="of W&B: a user or a team; default: the file's, or your own")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on this machine, or in the array")
    parser.add_argument("--count", type=int, help="how many runs; random and bayes need it, a grid ends by itself")
    parser.add_argument("--seed", type=int, default=0, help="of random choices of the search")
    parser.add_argument("--folder", help="of the runs; default: runs/sweeps/DATASET/SWEEP")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="slurm: submit a job array")
    parser.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="settings of the array (submitit's names, or sbatch's): time=720 gpus_per_node=1 partition=gpu ...",
    )
    parser.add_argument("--dry_run", action="store_true", help="print what would run, and nothing else")
    parser.add_argument("--experiments", default="experiments", help="the folder of the experiment files")
    return parser


def _check_values(sweep: Sweep) -> None:
    """Parses the command of every combination before any runs: a typo is found now, not after a night."""
    from centerclip_pl.cli.check_words import check_words
    from centerclip_pl.cli.experiment import fit_words
    from centerclip_pl.sweeps.search import values_to_check

    for parameters in values_to_check(sweep):
        command, *words = sweep.words(parameters)
        try:
            check_words(fit_words(words) if command == "train" else [command, *words])
        except ConfigError as error:
            _own_option(error.problem)
            varied = " ".join(f"{name}={parameters[name]}" for name in sweep.varied if name in parameters)
            with_these = f" (with {varied})" if varied else ""
            raise ConfigError(f"sweep {sweep.name}: {error.problem}{with_these}", error.next_step) from error


def _own_option(problem: str) -> None:
    # An option that no run has may be one of the sweep's own, misspelt.
    from difflib import get_close_matches

    _, unknown, words = problem.partition("unrecognized arguments: ")
    name = words.split()[0].partition("=")[0] if unknown and words else ""
    own = [word for action in _parser()._actions for word in action.option_strings]
    if name.startswith("--") and (near := get_close_matches(name, own, n=1, cutoff=0.75)):
        raise ConfigError(f"there is no option {name}", f"did you mean {near[0]}?")


def _print_plan(sweep: Sweep, count: int | None) -> None:
    from centerclip_pl.sweeps.search import grid_parameters, grid_size

    if grid_size(sweep) is None:
        runs = "as many as --count says" if count is None else str(count)
        print(f"{sweep.method} search over {', '.join(sweep.varied)}; {runs} runs, chosen one after the other")
        return
    commands = [shlex.join(["centerclip", *sweep.words(parameters)]) for parameters in grid_parameters(sweep)][:count]
    print("\n".join([*commands, f"# {len(commands)} runs"]))


def _place(sweep: Sweep, options: Any) -> Path:
    return Path(options.folder or Path("runs", "sweeps", sweep.dataset or "any", sweep.name))


def _folder(sweep: Sweep, options: Any) -> SweepFolder:
    from centerclip_pl.sweeps.trials import SweepFolder

    folder = SweepFolder(_place(sweep, options))
    folder.claim(sweep)
    return folder


def _here(sweep: Sweep, options: Any) -> None:
    from centerclip_pl.sweeps.process import LOG_FILE
    from centerclip_pl.sweeps.running import SweepInterrupted, SweepRunner
    from centerclip_pl.sweeps.search import total_runs

    total_runs(sweep, options.count)  # before a folder is made
    folder = _folder(sweep, options)
    runner = SweepRunner(
        sweep,
        folder,
        jobs=options.jobs,
        count=options.count,
        seed=options.seed,
        say=lambda line: print(line, flush=True),
    )
    print(f"sweep {sweep.name}: {runner.total} runs, {options.jobs} at a time, in {folder.path}", flush=True)
    try:
        outcome = runner.run()
    except SweepInterrupted:
        print("interrupted; the same command goes on with what is left", file=sys.stderr, flush=True)
        sys.exit(130)
    print(_summary(outcome, folder.path), flush=True)
    if outcome.failed:
        lines = [f"  {trial.folder / LOG_FILE}: {trial.reason}" for trial in outcome.failed]
        print(
            "\n".join([f"error: {len(outcome.failed)} runs failed; the same command tries them again", *lines]),
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)


def _summary(outcome: Outcome, folder: Path) -> str:
    parts = [f"{len(outcome.finished)} runs finished"]
    parts += [f"{len(outcome.stopped)} stopped early"] if outcome.stopped else []
    parts += [f"{len(outcome.failed)} failed"] if outcome.failed else []
    parts += [f"{outcome.done_before} were done before"] if outcome.done_before else []
    lines = [", ".join(parts), f"table       centerclip runs {folder}"]
    return "\n".join([*lines, f"page        centerclip report {folder} -o report.html"])


def _on_slurm(sweep: Sweep, options: Any) -> None:
    from centerclip_pl.sweeps import cluster

    settings = cluster.parse_settings(options.slurm)
    if options.dry_run:
        path = _place(sweep, options)
        runs = cluster.number_of_runs(sweep, options.count)
        print(cluster.batch_file(path.absolute(), settings, runs, options.jobs))
        return
    cluster.check_slurm()  # before the runs are written down
    cluster.number_of_runs(sweep, options.count)
    folder = _folder(sweep, options)
    trials = cluster.plan(sweep, folder, options.count, options.seed)
    if not trials:
        print(f"all runs of {folder.path} are done")
        return
    ids = cluster.submit(sweep, trials, folder.path.absolute(), settings, options.jobs)
    print(f"{len(ids)} runs were submitted as {ids[0]} to {ids[-1]}, {options.jobs} at a time, into {folder.path}")
    _print_files(sorted((folder.path / "slurm").glob("submission_file_*.sh"), key=os.path.getmtime)[-1:])


def _print_files(files: Iterable[Path]) -> None:
    for file in files:
        print(file.read_text())


def _is_online(options: Any) -> bool:
    if options.offline:
        return False
    from centerclip_pl.training.loggers import wandb_mode

    mode, why = wandb_mode()
    if mode == "online":
        return True
    if options.online:
        raise ConfigError(f"--online: {why or f'WANDB_MODE is {mode}'}", "log in with `wandb login`, or use --offline")
    print(f"W&B: {why or f'WANDB_MODE is {mode}'}, so the search runs here alone (--offline says so)", file=sys.stderr)
    return False


def _online(sweep: Sweep, options: Any) -> None:
    from centerclip_pl.sweeps import online

    refused = _only_offline(options)
    if refused:
        raise ConfigError(f"{refused} has no meaning for a sweep in W&B", "add --offline, or leave it out")
    project = options.project or sweep.config.get("project") or "centerclip_pl"
    sweep_id = online.create(sweep, project, options.entity or sweep.config.get("entity"))
    print(f"on other machines, in this repository's folder: wandb agent {sweep_id}", flush=True)
    status = online.work(sweep_id, options.count)
    if status:
        sys.exit(status)


def _only_offline(options: Any) -> str | None:
    given: Sequence[tuple[str, bool]] = (
        ("--jobs", options.jobs != 1),
        ("--folder", options.folder is not None),
        ("--seed", options.seed != 0),
    )
    return next((name for name, there in given if there), None)
