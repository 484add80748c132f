"""``report``: one page with tables and figures of all runs, which opens without a network."""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path

from centerclip_pl.errors import ConfigError, DataError

_DESCRIPTION = """Writes one HTML file about runs: what was found, tables, figures, every run with its command. It
holds all that it shows and loads nothing, so that it can be sent by mail and opened offline. Runs of different
protocols get sections of their own."""
_EPILOG = (
    """example: centerclip report runs/demo -o demo.html --where "epochs == 5" --baseline "method == 'pooling'" """
)


def report_command(words: list[str]) -> None:
    """Reads runs and writes the page.

    Args:
        words: behind ``centerclip report``.

    Raises:
        ConfigError: an option that does not exist or cannot work, or a file that is no report and would be replaced.
        DataError: there are no runs, or some cannot be read.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    if rest:
        _refuse(parser, rest[0])

    from centerclip_pl.report.html import require_writable

    output = Path(options.output)
    require_writable(output, force=options.force)  # before minutes of computing
    if not 0 < options.confidence < 1:
        raise ConfigError(f"--confidence={options.confidence:g}: must be between 0 and 1", "0.95 is usual")
    if options.resamples < 100:
        raise ConfigError(f"--resamples={options.resamples}: too few for an interval", "10000 is usual")

    from centerclip_pl.report import Options, build_page, render, write_report
    from centerclip_pl.report.wording import counted
    from centerclip_pl.runs import read_runs
    from centerclip_pl.runs.filtering import select

    sources = options.runs or ["runs"]
    runs = read_runs(sources, on_bad=options.on_bad_run)
    found = len(runs)
    if options.where:
        attributes = dict(runs.attrs)
        runs = select(runs, options.where)
        runs.attrs = attributes
        if runs.empty:
            raise DataError(
                f"--where: none of the {found:,} runs in {', '.join(sources)} meets {options.where}",
                "`centerclip runs` shows which values there are",
            )
    page = build_page(
        runs,
        sources,
        options=Options(
            metric=options.metric,
            baseline=options.baseline or None,
            confidence=options.confidence,
            resamples=options.resamples,
        ),
        title=options.title,
        where=options.where,
    )
    write_report(output, render(page))
    figures = sum(len(section.pictures) for section in page.sections)
    size = output.stat().st_size / 1e6
    print(f"{output}: {counted(len(runs), 'run')}, {counted(figures, 'figure')}, {size:.1f} MB")
    for skipped in runs.attrs.get("skipped") or ():
        print(f"left out: {skipped}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="centerclip report",
        usage="centerclip report [RUNS ...] [-o report.html] [OPTIONS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("runs", nargs="*", help="folders with runs, or wandb:ENTITY/PROJECT (default: runs)")
    parser.add_argument("-o", "--output", default="report.html", help="the file to write (default: report.html)")
    parser.add_argument("--title", help="of the page")
    parser.add_argument("--where", metavar="CONDITION", help='only runs that meet it, e.g. "segments >= 4"')
    parser.add_argument(
        "--baseline",
        metavar="CONDITION",
        default="method == 'baseline'",
        help="picks the setting that the others are compared with (default: \"%(default)s\"; '' for none)",
    )
    parser.add_argument("--metric", default="t2v/R@1", help="what settings are ranked by (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of intervals and verdicts (default: 0.95)")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the bootstrap (default: 10000)")
    parser.add_argument(
        "--on_bad_run",
        choices=("error", "skip"),
        default="error",
        help="what to do about runs that cannot be read: end with their list, or leave them out and say so in the page",
    )
    parser.add_argument("--force", action="store_true", help="replace the file even if it is no report")
    return parser


def _refuse(parser: argparse.ArgumentParser, word: str) -> None:
    names = [name for action in parser._actions for name in action.option_strings]
    near = get_close_matches(word.partition("=")[0], names, n=1)
    raise ConfigError(
        f"there is no option {word.partition('=')[0]}",
        f"did you mean {near[0]}?" if near else "`centerclip report --help` lists the options",
    )
