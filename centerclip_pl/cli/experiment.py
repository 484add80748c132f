"""``train`` and ``eval``: experiments by name. They compose the files below ``experiments/`` and run LightningCLI."""

from __future__ import annotations

import argparse
import re
import reprlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from centerclip_pl.errors import CheckpointError, ConfigError

_NONE = re.compile(r"--[\w.]+=None")


def train(words: list[str]) -> None:
    """Trains, then tests the chosen checkpoint once, and prints the table."""
    command = fit_words(words)

    from centerclip_pl.cli.going_on import let_go
    from centerclip_pl.cli.lightning import run

    cli = run(command, and_test=True)
    try:
        cli.trainer.test(
            cli.model, datamodule=cli.datamodule, ckpt_path=cli.chosen_checkpoint, weights_only=True, verbose=False
        )
        cli.print_results()
    finally:
        let_go()


def fit_words(words: list[str]) -> list[str]:
    """The ``fit`` command that ``train`` runs for its words.

    ``--data.fps=None``, as ``wandb agent`` writes a sweep's ``null``, becomes ``--data.fps=null``.

    Args:
        words: behind ``centerclip train``, e.g. ``["--dataset=msrvtt", "--tokens.segments=3"]``.

    Returns:
        For :func:`centerclip_pl.cli.lightning.run` or :func:`~centerclip_pl.cli.check_words.check_words`.

    Raises:
        ConfigError: there is no such dataset, method or backbone.
    """
    parser = _parser("train", "All other options are those of `centerclip fit --help`, such as --trainer.max_epochs=1.")
    parser.add_argument(
        "--select",
        metavar="val|test|last",
        help="the weights to test: the best on validation (default), the best on the test split (as published, "
        "optimistic), or as training leaves them",
    )
    options, rest = parser.parse_known_args(words)
    configs = compose(Path(options.experiments), options.dataset, options.method, options.backbone)
    rest = [f"{word.removesuffix('None')}null" if _NONE.fullmatch(word) else word for word in rest]
    return ["fit", *configs, *rest, *([] if options.select is None else [f"--select={options.select}"])]


def evaluate(words: list[str]) -> None:
    """Tests a checkpoint on a dataset, or, without one, a backbone as it is."""
    parser = _parser("eval", "All other options are those of `centerclip test --help`.")
    parser.add_argument(
        "--checkpoint", help="of a training run; without it the backbone is tested as it is (zero-shot)"
    )
    parser.set_defaults(dataset=None)
    options, rest = parser.parse_known_args(words)
    experiments = Path(options.experiments)
    beside = None
    if options.checkpoint is not None:
        if not Path(options.checkpoint).is_file():
            raise CheckpointError(f"checkpoint {options.checkpoint}: there is no such file")
        rest = [*rest, f"--ckpt_path={options.checkpoint}"]
        beside = Path(options.checkpoint).parent.parent / "config.yaml"
    if beside is not None and beside.is_file():
        # The run's own options, with only what was named in their place.
        named = (("dataset", options.dataset), ("method", options.method), ("backbone", options.backbone))
        files = [beside, *(experiment_file(experiments, part, name) for part, name in named if name)]
        configs = _as_options(files)
    else:
        configs = compose(experiments, options.dataset or "demo", options.method, options.backbone)

    from centerclip_pl.cli.lightning import run

    run(["test", *configs, "--verbose=false", *rest])


def _parser(command: str, more: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"centerclip {command}",
        allow_abbrev=False,  # --data=CLASS is LightningCLI's, not --dataset
        description=f"{(train if command == 'train' else evaluate).__doc__} {more}",
    )
    parser.add_argument("--dataset", default="demo", help="a file of experiments/datasets, without .yaml")
    parser.add_argument("--method", help="a file of experiments/methods; default: what the dataset names")
    parser.add_argument("--backbone", help="a file of experiments/backbones; default: what the dataset names")
    parser.add_argument("--experiments", default="experiments", help="the folder of these files")
    return parser


def compose(experiments: Path, dataset: str, method: str | None, backbone: str | None) -> list[str]:
    """The ``--config`` options of an experiment: dataset, method, backbone, later ones over earlier ones.

    Args:
        experiments: folder with ``datasets``, ``methods`` and ``backbones``.
        dataset: name of a file there.
        method: likewise; None: the one that the dataset's file names at ``experiment.method``.
        backbone: likewise.

    Raises:
        ConfigError: if a file is absent; it says which there are.
    """
    first = experiment_file(experiments, "dataset", dataset)
    named = read_experiment(first).get("experiment") or {}
    files = [first]
    for part, given in (("method", method), ("backbone", backbone)):
        name = given or named.get(part)
        if not name:
            raise ConfigError(f"{first} names no default {part}", f"give one: --{part}=NAME")
        files.append(experiment_file(experiments, part, str(name)))
        read_experiment(files[-1])  # the parser would not say which file it cannot read
    words = _as_options(files)
    weights = (read_experiment(files[-1]).get("model") or {}).get("backbone")
    if isinstance(weights, str) and not Path(weights).is_dir() and (experiments.parent / weights).is_dir():
        words.append(f"--model.backbone={experiments.parent / weights}")  # run from elsewhere than the repository
    return words


def _as_options(files: list[Path]) -> list[str]:
    return [word for file in files for word in ("--config", str(file))]


def experiment_file(experiments: Path, part: str, name: str) -> Path:
    """The file of a dataset, method or backbone.

    Raises:
        ConfigError: there is none of this name; it says which there are.
    """
    if not experiments.is_dir():
        raise ConfigError(
            f"there is no folder {experiments} in {Path.cwd()}",
            "run the command in the repository's folder, or name the folder: --experiments=FOLDER",
        )
    folder = experiments / f"{part}s"
    file = folder / f"{name}.yaml"
    if not file.is_file():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"there is no {part} {name!r} ({file})", f"{hint}{part}s here: {', '.join(known)}")
    return file


def read_experiment(file: Path) -> dict[str, Any]:
    """The options in such a file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: 2001-99-99 is no date
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: must hold options (a YAML mapping)")
    for section in ("experiment", "data", "model"):
        if not isinstance(content.get(section), dict | None):
            raise ConfigError(f"{file}: its section {section} is {reprlib.repr(content[section])}", "give it options")
    return content
