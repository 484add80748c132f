"""``compare``: which of two settings is better, by how much, how sure that is, and at what cost."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing

if TYPE_CHECKING:
    import pandas as pd

    from centerclip_pl.statistics import Comparison

_DESCRIPTION = """Compares two settings by the ranks of the same queries: a verdict, differences with intervals, cost. A
and B are each a run's folder, a folder with the runs (seeds) of one setting, or wandb:ENTITY/PROJECT; or name one
source and pick both with --a and --b. What is computed is explained in docs/statistics.md."""
_EPILOG = """examples:
  centerclip compare runs/demo/pooling_demo runs/demo/kmedoids_demo
  centerclip compare runs --a "method == 'pooling' and segments == 4" --b "method == 'kmedoids' and segments == 4" """


def compare_command(words: list[str]) -> None:
    """Prints the comparison.

    Args:
        words: behind ``centerclip compare``.

    Raises:
        ConfigError: an option that does not exist or cannot work.
        DataError: runs that are not there, cannot be read, or cannot be compared.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    if rest:
        _refuse(parser, rest[0])
    sources = options.runs
    if len(sources) not in (1, 2) or (len(sources) == 1 and not (options.a and options.b)):
        raise ConfigError(
            "there is nothing to compare"
            if not sources
            else f"{len(sources)} source{'s are' if len(sources) > 1 else ' is'} given: {', '.join(sources)}",
            "name two, A and B; or one with --a and --b: "
            "centerclip compare runs --a \"method == 'pooling'\" --b \"method == 'kmedoids'\"",
        )
    if options.json is not None:
        _require_writable(Path(options.json))

    from centerclip_pl.cli.compare_table import format_comparison
    from centerclip_pl.statistics import compare

    a, b, skipped = _read(sources, options.a, options.b, options.on_bad_run)
    found = compare(a, b, metric=options.metric, confidence=options.confidence, resamples=options.resamples)
    if options.json is not None:
        _write(Path(options.json), found)
    width = max(80, min(120, shutil.get_terminal_size().columns))
    print(format_comparison(found, markdown=options.markdown, width=width), flush=True)
    for each in skipped:
        print(f"left out: {each}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="centerclip compare",
        usage="centerclip compare A B [OPTIONS] | centerclip compare RUNS --a CONDITION --b CONDITION [OPTIONS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("runs", nargs="*", help="A and B, or one source of both")
    parser.add_argument("--a", metavar="CONDITION", help="picks the runs of A, e.g. \"method == 'kmedoids'\"")
    parser.add_argument("--b", metavar="CONDITION", help="picks the runs of B")
    parser.add_argument("--metric", default="t2v/R@1", help="what the verdict is about (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the test's videos (default: 10000)")
    parser.add_argument("--json", metavar="FILE", help="write everything into a file as well")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument(
        "--on_bad_run",
        choices=("error", "skip"),
        default="error",
        help="what to do about runs that cannot be read: end with their list, or leave them out and say so",
    )
    return parser


def _read(
    sources: list[str], condition_a: str | None, condition_b: str | None, on_bad: Literal["error", "skip"]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The runs of A and of B, with the columns of both: an option may differ between them alone."""
    from centerclip_pl.runs import read_runs
    from centerclip_pl.runs.filtering import select

    runs = read_runs(sources, on_bad=on_bad)
    sides = []
    for name, source, condition in (("A", sources[0], condition_a), ("B", sources[-1], condition_b)):
        side = runs
        if len(sources) == 2:
            members = {_place(run) for run in read_runs(source, on_bad=on_bad)["run"]}
            side = runs[[_place(run) in members for run in runs["run"]]]
        if condition:
            chosen = select(side, condition)
            if chosen.empty:
                raise DataError(
                    f"--{name.lower()}: none of the {len(side):,} runs in {source} meets {condition}",
                    f"`centerclip runs {source}` shows which values there are",
                )
            side = chosen
        sides.append(side)
    return sides[0], sides[1], list(runs.attrs.get("skipped") or ())


def _place(run: str) -> str:
    """A name that is the same however the folder was written."""
    return run if run.startswith("wandb:") else os.path.realpath(run)


def _require_writable(file: Path) -> None:
    """Before a minute of computing."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        why = (
            "is a folder" if file.is_dir() else f"cannot be written: {file.parent} is no folder that may be written to"
        )
        raise ConfigError(f"--json: {file} {why}", "name a file in a folder that exists")


def _write(file: Path, found: Comparison) -> None:
    text = json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n"
    try:
        with replacing(file) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json: {file} cannot be written: {error.strerror}", "name another file") from error


def _refuse(parser: argparse.ArgumentParser, word: str) -> None:
    option = word.partition("=")[0]
    names = [name for action in parser._actions for name in action.option_strings]
    near = get_close_matches(option, names, n=1)
    raise ConfigError(
        f"there is no option {option}",
        f"did you mean {near[0]}?" if near else "`centerclip compare --help` lists the options",
    )
