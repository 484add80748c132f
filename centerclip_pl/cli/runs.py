"""``runs``: what all runs found, as a table on the terminal, in Markdown or as CSV."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing

if TYPE_CHECKING:
    import pandas as pd

_DESCRIPTION = """Lists all runs that have ended in a test (results.json) below folders or in W&B projects. What all
runs have in common stands above the table. Runs of different protocols get tables of their own."""
_EPILOG = """example: centerclip runs runs/demo --where "method == 'kmedoids' and segments >= 4" --sort t2v/R@1"""
_STANDARD_OUTPUT = "-"
_UNREAD = "ranks were not read"


def runs_command(words: list[str]) -> None:
    """Reads runs and prints or writes the table.

    Args:
        words: behind ``centerclip runs``.

    Raises:
        ConfigError: an option that does not exist or cannot work, or a file that cannot be written.
        DataError: there are no runs, or some cannot be read.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(_joined(words))
    if rest:
        names = [name for action in parser._actions for name in action.option_strings]
        near = get_close_matches(rest[0].partition("=")[0], names, n=1)
        raise ConfigError(
            f"there is no option {rest[0].partition('=')[0]}",
            f"did you mean {near[0]}?" if near else "`centerclip runs --help` lists the options",
        )
    if options.csv == options.markdown == _STANDARD_OUTPUT:
        raise ConfigError("--csv and --markdown both print to the terminal", "give one of them a file: --csv=FILE")

    from centerclip_pl.runs import read_runs
    from centerclip_pl.runs.filtering import select
    from centerclip_pl.runs.listing import check_columns, sort_runs

    sources = options.sources or ["runs"]
    runs = read_runs(sources, on_bad=options.on_bad_run)
    found = len(runs)
    if options.where:
        runs = select(runs, options.where)
        if runs.empty:
            raise DataError(
                f"none of the {found:,} runs in {', '.join(sources)} meets --where={options.where}",
                "`centerclip runs` without it shows which values there are",
            )
    columns = _names(options.columns)
    if columns == []:
        raise ConfigError("--columns names none", "as in: --columns run,method,t2v/R@1; or --columns all")
    tables = _by_protocol(runs, columns, seeds=options.seeds, in_full=options.csv is not None)
    keys = _names(options.sort) or []
    tables = {label: sort_runs(table, keys) for label, table in tables.items()}
    if columns and columns != ["all"]:
        for table in tables.values():
            check_columns(columns, table, "--columns")
    _print_and_write(tables, runs, columns, options)
    for kind in ("skipped", "unfinished"):
        names = runs.attrs.get(kind) or []
        said = {"skipped": "left out", "unfinished": "unfinished, has options and no results"}[kind]
        for name in names[:10]:
            print(f"{said}: {name}", file=sys.stderr)
        if len(names) > 10:
            print(f"{said}: {len(names) - 10} more", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="centerclip runs",
        usage="centerclip runs [SOURCE ...] [OPTIONS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="folders with runs, or wandb:ENTITY/PROJECT (default: runs)"
    )
    parser.add_argument("--where", metavar="CONDITION", help="only runs that meet it, as in the example below")
    parser.add_argument(
        "--sort",
        metavar="COLUMN[,...]",
        help="recalls from the highest, ranks, cost and all else from the lowest; -COLUMN the other way round",
    )
    parser.add_argument("--columns", metavar="A,B,C", help="what to show; all: every column there is")
    parser.add_argument("--seeds", action="store_true", help="one row a setting: means over its seeds, ± their spread")
    parser.add_argument("--csv", metavar="FILE", help="write all columns as CSV; without =FILE: print it")
    parser.add_argument("--markdown", metavar="FILE", help="write the table as Markdown; without =FILE: print it")
    parser.add_argument(
        "--on_bad_run",
        choices=("error", "skip"),
        default="error",
        help="what to do about runs that cannot be read: end with their list, or leave them out and name them",
    )
    return parser


def _joined(words: Sequence[str]) -> list[str]:
    """``--csv`` alone takes no value from the next word, and ``--sort -COLUMN`` does."""
    result: list[str] = []
    for word in words:
        if result and result[-1] == "--sort":
            result[-1] = f"--sort={word}"
        else:
            result.append(f"{word}={_STANDARD_OUTPUT}" if word in ("--csv", "--markdown") else word)
    return result


def _names(option: str | None) -> list[str] | None:
    return None if option is None else [name.strip() for name in option.split(",") if name.strip()]


def _by_protocol(
    runs: pd.DataFrame, columns: Sequence[str] | None, *, seeds: bool, in_full: bool
) -> dict[str, pd.DataFrame]:
    """The tables to show, by what their runs have in common."""
    from centerclip_pl.runs import split_protocols

    parts = split_protocols(runs)
    if not seeds:
        return parts
    from centerclip_pl.statistics import summarise

    # Intervals take seconds; most tables do not show them.
    wanted = in_full or any(name.endswith((" low", " high")) for name in columns or [])
    read: Callable[[str], pd.DataFrame] | None = None if wanted else _no_ranks
    tables = {}
    for label, part in parts.items():
        tables[label] = summarise(part, read_ranks=read)
        notes: list[str] = tables[label].attrs.get("notes", [])
        for note in notes:
            if _UNREAD not in note:
                print(f"note: {note}", file=sys.stderr)
    return tables


def _no_ranks(run: str) -> pd.DataFrame:
    raise DataError(_UNREAD)


def _print_and_write(
    tables: dict[str, pd.DataFrame], runs: pd.DataFrame, columns: list[str] | None, options: argparse.Namespace
) -> None:
    import pandas as pd

    from centerclip_pl.runs.listing import listing
    from centerclip_pl.runs.rendering import as_csv, as_markdown, as_text

    whole = pd.concat(tables.values(), ignore_index=True)
    if columns == ["all"]:
        columns = list(whole.columns)
    listings = [listing(table, _title(label, table), columns) for label, table in tables.items()]
    if options.csv is not None:
        _put(options.csv, as_csv(whole if columns is None else whole[_with_protocol(columns, len(tables))]))
    if options.markdown is not None:
        _put(options.markdown, "\n".join(as_markdown(each) for each in listings))
    if _STANDARD_OUTPUT not in (options.csv, options.markdown):
        on_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if on_terminal else None
        print("\n\n".join(as_text(each, width=width, color=on_terminal) for each in listings))


def _with_protocol(columns: list[str], tables: int) -> list[str]:
    """In one file, rows of several protocols must say which is theirs."""
    missing = [name for name in ("dataset", "split", "protocol") if name not in columns]
    return [*missing, *columns] if tables > 1 else columns


def _title(label: str, table: pd.DataFrame) -> str:
    if "n_seeds" in table.columns:
        settings, count = len(table), int(table["n_seeds"].sum())
        return f"{label}: {_counted(settings, 'setting')}, {_counted(count, 'run')}"
    return f"{label}: {_counted(len(table), 'run')}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _put(target: str, content: str) -> None:
    if target == _STANDARD_OUTPUT:
        print(content, end="")
        return
    path = Path(target)
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        with replacing(path) as part:
            part.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}", "name a file in a folder that exists"
        ) from error
    print(f"written: {path}", file=sys.stderr)
