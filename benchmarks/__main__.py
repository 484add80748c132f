"""``python -m benchmarks``: measures, prints tables, and writes ``benchmarks/results/<device>.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks import clustering, encoder, parts, training_step
from benchmarks.report import RESULTS, Measured, Part, markdown, measured_rows, part_rows, write

Only = Literal["distances", "direct", "encoder", "training", "reducers", "heads"]
MEASUREMENTS: dict[str, Callable[[str, int], list[Measured]]] = {
    "distances": clustering.against_distances,
    "direct": clustering.against_direct,
    "encoder": encoder.against_none,
    "training": training_step.against_none,
}
PARTS: dict[str, Callable[[str, int], list[Part]]] = {"reducers": parts.reducers, "heads": parts.heads}


def bench(
    device: str = "cpu",
    only: list[Only] | None = None,
    repetitions: int = 30,
    folder: Path = RESULTS,
    strict: bool = False,
    table: Path | None = None,
) -> None:
    """Measures what clustering, encoding and training cost, as ratios within one run.

    Args:
        device: cpu or cuda.
        only: these measurements; the others keep what an earlier run found.
        repetitions: of what is short; longer things are repeated less often.
        folder: for the results.
        strict: exit with status 1 if a bound is missed.
        table: measure nothing; print the tables of this results file as Markdown.
    """
    if table is not None:
        content = json.loads(table.read_text())
        print(f"{markdown(measured_rows(content))}\n\n{markdown(part_rows(content))}")
        return
    if device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("error: device is cuda, but torch finds no GPU\n  -> leave DEVICE out to measure on the CPU")
    names = only or [*MEASUREMENTS, *PARTS]
    console = Console()
    measured, costs = [], []
    for name in names:
        console.print(f"measuring {name} ...", style="dim")
        if name in MEASUREMENTS:
            measured += MEASUREMENTS[name](device, repetitions)
        else:
            costs += PARTS[name](device, repetitions)
    path = write(device, measured, costs, folder)
    content = json.loads(path.read_text())
    for rows in (measured_rows(content), part_rows(content)):
        show = Table(*rows[0], title=content["device"], title_justify="left")
        for row in rows[1:]:
            show.add_row(*row)
        console.print(show)
    console.print(f"results: {path}")
    missed = [m for m in measured if m.reached is False]
    if missed:
        console.print(f"{len(missed)} of {sum(m.reached is not None for m in measured)} bounds missed")
        if strict:
            sys.exit(1)


if __name__ == "__main__":
    auto_cli(bench, as_positional=False)
