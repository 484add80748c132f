"""From ``data ACTION DATASET --data.root=FOLDER --option=value`` to a call with a datamodule."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from centerclip_pl.cli.backbones import image_size_of
from centerclip_pl.cli.experiment import experiment_file, read_experiment
from centerclip_pl.errors import ConfigError


def run_on_dataset(function: Callable[..., None], words: list[str]) -> None:
    """Calls `function` with the datamodule that the words describe, and with its own options.

    Args:
        function: its first parameter is ``data``, a :class:`~centerclip_pl.data.RetrievalDataModule`; the others become
            options, explained by its docstring.
        words: ``DATASET [--experiments FOLDER] [--data.OPTION=VALUE ...] [--OPTION=VALUE ...]``. The dataset's file in
            experiments/datasets gives the defaults of ``--data``. Options of `function` that are true or false need no
            value to be true.

    Raises:
        ConfigError: no dataset is named, or there is no such dataset.
        ArgumentError: an option that does not exist, or a value that does not fit.
    """
    from centerclip_pl.data import RetrievalDataModule

    prog = f"centerclip data {function.__name__}"
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog} DATASET [OPTIONS]",
        parser_mode="omegaconf+",
        exit_on_error=False,
        allow_abbrev=False,
        description=f"{(function.__doc__ or '').split(chr(10))[0]} The dataset's own options (--data.root=FOLDER, "
        "--data.videos=FOLDER, --data.on_bad_video=drop, ...) are listed by: DATASET --data.help",
    )
    parser.add_argument("--experiments", type=str, default="experiments", help="the folder with datasets/DATASET.yaml")
    parser.add_function_arguments(function, skip={"data"}, fail_untyped=True)
    # The other annotations may name what is imported for type checkers alone: these are texts here.
    flags = {name for name, option in signature(function).parameters.items() if option.annotation in (bool, "bool")}
    for action in parser._actions:
        if action.dest in flags:  # `--dry_run` alone means `--dry_run=true`
            action.nargs, action.const = "?", True
    parser.add_subclass_arguments(RetrievalDataModule, "data", required=True)
    if not {"-h", "--help"}.isdisjoint(words):
        parser.print_help()
        return
    if not words or words[0].startswith("-"):
        raise ConfigError("no dataset was named", f"e.g. `{prog} msrvtt`")
    name, *rest = words
    # Read before the rest: the file gives the defaults that the rest is read with.
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--experiments", type=Path, default=Path("experiments"))
    folder = before.parse_known_args(rest)[0].experiments
    file = experiment_file(folder, "dataset", name)
    section = read_experiment(file).get("data")
    if not isinstance(section, dict):
        raise ConfigError(f"{file} has no section `data`", "it names the dataset's class, see the other files there")
    section["init_args"] = {**_fitting_the_backbone(folder, file), **section.get("init_args", {})}
    parser.set_defaults({"data": section})
    options = parser.instantiate(parser.parse_args(rest))
    given = {key: value for key, value in vars(options).items() if key not in ("data", "experiments")}
    function(options.data, **given)


def _fitting_the_backbone(experiments: Path, file: Path) -> dict[str, Any]:
    """Tokenizer and image size of the backbone that the dataset's file names, as training would set them."""
    name = (read_experiment(file).get("experiment") or {}).get("backbone")
    if not name:
        return {}
    weights = (read_experiment(experiment_file(experiments, "backbone", name)).get("model") or {}).get("backbone")
    if not isinstance(weights, str):
        return {}
    if not Path(weights).is_dir() and (experiments.parent / weights).is_dir():
        weights = str(experiments.parent / weights)
    size = image_size_of(weights)  # those on the hub that are named here take 224 pixels, as is the default
    return {"tokenizer": weights} if size is None else {"tokenizer": weights, "image_size": size}
