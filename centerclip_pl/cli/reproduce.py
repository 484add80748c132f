"""``reproduce``: trains a row of a published table, tests it, and shows both results side by side."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from centerclip_pl.cli.run_folder import current_run_dir
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.launch import is_first_process

if TYPE_CHECKING:
    from centerclip_pl.training.published import PublishedRow

_DESCRIPTION = """Trains a row of a published table as `centerclip train` does, and sets the figures beside the
published ones. `reproduce` lists the tables, `reproduce DATASET` its rows. All further options are those of `centerclip
fit --help`, such as --data.root=FOLDER; what they change of the recipe is named in the comparison. --data.batch_size is
of each process: with N of them give --data.batch_size=128/N. A run that was interrupted goes on with the same command
and --run_dir=FOLDER, the folder that it named when it stopped."""


def reproduce_command(words: list[str]) -> None:
    """Lists what was published, or trains a row and compares.

    An interrupted run goes on with the same words and ``--run_dir=FOLDER``. A lower figure than the published one is no
    error.

    Args:
        words: behind ``centerclip reproduce``.

    Raises:
        ConfigError: there is no such dataset or row, or options do not go together.
        DataError: ``--results`` is no results.json.
    """
    dataset = None
    if words and not words[0].startswith("-"):
        dataset, *words = words
    options, rest = _parser().parse_known_args(words)

    from centerclip_pl.training.comparison_table import format_rows, format_tables
    from centerclip_pl.training.published import read_published

    tables = read_published(Path(options.experiments) / "papers")
    if options.row is None and (rest or options.results is not None or options.dry_run):
        given = shlex.join(rest) or ("--results" if options.results else "--dry_run")
        raise ConfigError(
            f"{given} needs a row to go with",
            "start with the dataset and the row: centerclip reproduce msrvtt-9k --row 4 ...",
        )
    if dataset is None:
        if options.row is not None:
            raise ConfigError(
                f"--row {options.row}: of which dataset?",
                f"name it first, one of {', '.join(tables)}: centerclip reproduce DATASET --row {options.row} ...",
            )
        print(format_tables(tables))
        return
    rows = _rows(tables, dataset)
    if options.row is None:
        print(format_rows(rows))
        return
    row = _row(rows, dataset, options.row)
    if options.results is not None:
        if rest or options.dry_run:
            given = shlex.join([*rest, *(["--dry_run"] if options.dry_run else [])])
            raise ConfigError(f"{given} has no effect with --results, which runs nothing", "leave one of them out")
        given_path = Path(options.results)
        _show(row, given_path / "results.json" if given_path.is_dir() else given_path)
        return
    elsewhere = ["--experiments", options.experiments] if options.experiments != "experiments" else []
    _run(row, [*row.words(), *elsewhere, *rest], dry_run=options.dry_run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="centerclip reproduce",
        usage="centerclip reproduce [DATASET [--row N [--dry_run | --results FILE | OPTIONS OF TRAIN]]]",
        allow_abbrev=False,
        description=_DESCRIPTION,
    )
    parser.add_argument("--row", help="of the dataset's table, counted from 1; without it the rows are listed")
    parser.add_argument("--dry_run", action="store_true", help="print the command that would run, and nothing else")
    parser.add_argument("--results", help="a results.json, or its folder: compare it and run nothing")
    parser.add_argument("--experiments", default="experiments", help="the folder of the experiment files")
    return parser


def _rows(tables: dict[str, list[PublishedRow]], dataset: str) -> list[PublishedRow]:
    if dataset not in tables:
        near = get_close_matches(dataset, tables, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"there is no published table for the dataset {dataset!r}",
            f"{hint}tables are there for {', '.join(tables)}",
        )
    return tables[dataset]


def _row(rows: Sequence[PublishedRow], dataset: str, number: str) -> PublishedRow:
    if not number.isdecimal() or not 1 <= int(number) <= len(rows):
        raise ConfigError(
            f"there is no row {number!r} of {dataset}; its rows are 1 to {len(rows)}",
            f"`centerclip reproduce {dataset}` lists them",
        )
    return rows[int(number) - 1]


def _run(row: PublishedRow, words: list[str], *, dry_run: bool) -> None:
    from centerclip_pl.training.masking import mask_command

    command = mask_command(["centerclip", "train", *words])
    if dry_run:
        print(command)
        return
    # The processes that Lightning starts for the other GPUs repeat this command; one of them speaks.
    first = is_first_process()
    if first:
        print(f"{row.table}, row {row.number}: {row.name} ({row.source})\n{command}", flush=True)

    from centerclip_pl.cli.experiment import train

    train(words)
    if first:
        print(flush=True)
        _show(row, _run_dir(words) / "results.json")


def _run_dir(words: Sequence[str]) -> Path:
    """The folder of the run that has just ended."""
    named = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    named.add_argument("--run_dir")
    given = named.parse_known_args(words)[0].run_dir
    folder = Path(given) if given else current_run_dir()
    if folder is None:  # a --config file named it
        raise ConfigError(
            "the run is done, but its folder is named neither by --run_dir nor by the program",
            "compare it by itself: the same command with --results=FOLDER instead of the further options",
        )
    return folder


def _show(row: PublishedRow, file: Path) -> None:
    """Prints the comparison of a ``results.json`` with a row."""
    from centerclip_pl.training.comparison import compare
    from centerclip_pl.training.comparison_table import format_comparison
    from centerclip_pl.training.results import Counts, Selection, read_results
    from centerclip_pl.training.run_files import architecture_of, training_memory

    results = read_results(file)
    for part, content, fields in (
        ("selection", results["selection"], Selection.__required_keys__),
        ("counts", results["counts"], Counts.__required_keys__),
    ):
        missing = sorted(fields - content.keys()) if isinstance(content, dict) else [part]
        if missing:
            raise DataError(f"{file}: {part} lacks {', '.join(missing)}", "the file was edited; test again")
    config = _config(file.with_name("config.yaml"))
    comparison = compare(
        row,
        results,
        config,
        architecture=architecture_of((config or {}).get("model", {}).get("backbone")),
        training_memory_mb=training_memory(file.with_name("metrics.csv")),
    )
    print(format_comparison(comparison), flush=True)


def _config(file: Path) -> dict[str, Any] | None:
    import yaml

    if not file.is_file():
        return None
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{file}: cannot be read: {error}", "restore the file, or move it away") from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise DataError(f"{file}: holds no options of a run", "restore the file, or move it away")
    return content
