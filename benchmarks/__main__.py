"""``python -m benchmarks``: measures, prints tables, and writes ``benchmarks/results/<device>.json``."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import (
    clustering,
    encoder,
    evaluation,
    grad_cache,
    memory_prediction,
    parts,
    reading,
    tables,
    training_step,
)
from benchmarks.memory import is_out_of_memory
from benchmarks.plan import Plan
from benchmarks.report import RESULTS, Measured, Part, circumstances, differences, results_path, write

MEASUREMENTS: dict[str, Callable[[Plan], list[Measured]]] = {
    "distances": clustering.against_distances,
    "direct": clustering.against_direct,
    "encoder": encoder.against_none,
    "training": training_step.against_none,
    "grad-cache": grad_cache.against_whole,
    "grad-cache-large": grad_cache.large_batch,
    "memory-prediction": memory_prediction.against_measured,
    "reading": reading.against_whole,
    "waiting": reading.waiting,
    "evaluation": evaluation.at_scale,
}
PARTS: dict[str, Callable[[Plan], list[Part]]] = {"reducers": parts.reducers, "heads": parts.heads}


def main(arguments: Sequence[str] | None = None) -> None:
    """See ``--help``."""
    options = _parser().parse_args(arguments)
    if options.table is not None:
        _show(json.loads(options.table.read_text()), options.markdown, options.into)
    else:
        plan = Plan(options.device, options.repetitions, options.quick)
        bench(plan, options.only, options.folder, options.strict, options.markdown, options.into)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measures what clustering, encoding and training cost, as ratios within one run.",
    )
    names = [*MEASUREMENTS, *PARTS]
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        metavar="NAME",
        help=f"of {', '.join(names)}; the others keep what an earlier run found",
    )
    parser.add_argument(
        "--repetitions", type=_positive, default=30, help="of what is short, 30; longer things are repeated less often"
    )
    parser.add_argument(
        "--quick", action="store_true", help="toy sizes, twice: only shows that it works; writes a file of its own"
    )
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for the results")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if a bound is missed")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--into", type=Path, metavar="FILE", help="put them between the marks of a Markdown file, too")
    parser.add_argument("--table", type=Path, metavar="RESULTS", help="measure nothing; show the results of this file")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def bench(
    plan: Plan,
    only: Sequence[str] | None = None,
    folder: Path = RESULTS,
    strict: bool = False,
    markdown: bool = False,
    into: Path | None = None,
) -> None:
    """Measures, writes and shows; the parser's help explains the arguments."""
    if plan.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("error: device is cuda, but torch finds no GPU\n  -> leave DEVICE out to measure on the CPU")
    names = [*MEASUREMENTS, *PARTS] if only is None else only
    path = results_path(plan, folder)
    if only is not None and (other := differences(path, circumstances(plan.device))):
        sys.exit(
            f"error: {path} was measured under other circumstances: {'; '.join(other)}\n"
            "  -> measure everything (leave --only out), or write elsewhere with --folder"
        )
    console = Console(stderr=True)
    measured: list[Measured] = []
    costs: list[Part] = []
    for name in names:
        console.print(f"measuring {name} ...", style="dim", highlight=False)
        try:
            if name in MEASUREMENTS:
                measured += [replace(entry, measurement=name) for entry in MEASUREMENTS[name](plan)]
            else:
                costs += [replace(entry, measurement=name) for entry in PARTS[name](plan)]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            measured.append(Measured(name, "", None, detail="there was not enough memory", measurement=name))
    if plan.quick:
        measured = [replace(m, at_most=None, at_least=None) for m in measured]
    _show(write(path, plan, measured, costs, keep=only is not None), markdown, into)
    console.print(f"results: {path}", highlight=False, soft_wrap=True)
    _exit(measured, strict, console)


def _show(content: dict[str, Any], markdown: bool, into: Path | None) -> None:
    if into is not None:
        tables.put_into(into, tables.markdown(content))
    if markdown:
        print(tables.markdown(content))
        return
    console = Console() if sys.stdout.isatty() else Console(width=tables.WIDE)
    for table in tables.terminal(content, console.width):
        console.print(table)


def _exit(measured: list[Measured], strict: bool, console: Console) -> None:
    wrong = [m for m in measured if m.wrong]
    missed = [m for m in measured if m.reached is False and not m.wrong]
    bounds = sum(m.at_most is not None or m.at_least is not None for m in measured)
    unknown = sum(m.ratio is None and not m.wrong for m in measured)
    if missed:
        console.print(f"{len(missed)} of {bounds} bounds missed")
    if unknown:
        console.print(f"{unknown} not measured for want of memory")
    for entry in wrong:
        console.print(f"error: {entry.group}: {entry.what}: {entry.detail}", highlight=False, soft_wrap=True)
    if wrong or (strict and (missed or unknown)):
        sys.exit(1)


if __name__ == "__main__":
    main()
