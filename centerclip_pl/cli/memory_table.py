"""What ``memory`` found, for the terminal and as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from centerclip_pl.training.memory import PARTS, Fit, Prediction, Saving, Training, usable
from centerclip_pl.training.memory.largest import CONTEXT_BYTES, GIGABYTE, SHARE_LOST

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDE = 120
_SMALLEST = 500_000  # bytes that a table shows

RESERVE = f"{CONTEXT_BYTES / GIGABYTE:g} GB and {SHARE_LOST:.0%} of the GPU"
"""What is left free, in words."""


@dataclass(frozen=True)
class Found:
    """All that the command says."""

    training: Training
    backbone: str
    prediction: Prediction
    fits: list[Fit]
    savings: list[Saving]
    notes: list[str] = field(default_factory=list)


def gigabytes(size: int) -> str:
    """``12.3 GB``, of 10^9 bytes; megabytes below one."""
    return f"{size / GIGABYTE:.1f} GB" if abs(size) >= GIGABYTE else f"{size / 10**6:.0f} MB"


def as_json(found: Found) -> dict[str, Any]:
    """Plain values; all sizes in bytes."""
    training = found.training
    return {
        "backbone": found.backbone,
        "batch_size": training.batch_size,
        "frames": training.frames,
        "words": training.words,
        "precision": training.precision,
        "processes": training.processes,
        "peak": found.prediction.peak,
        "parts": found.prediction.parts,
        "fits": [
            {
                "gpu_gigabytes": fit.gigabytes,
                "usable": usable(fit.gigabytes),
                "this_batch": found.prediction.peak <= usable(fit.gigabytes),
                "largest_batch_size": fit.batch_size,
                "or_more": fit.at_least,
                "peak": fit.peak,
            }
            for fit in found.fits
        ],
        "switches": [
            {
                "options": saving.switch.options,
                "price": saving.switch.price,
                "peak": saving.prediction.peak,
                "saved": saving.saved,
            }
            for saving in found.savings
        ],
        "notes": found.notes,
    }


def show(found: Found) -> None:
    """Prints tables."""
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=_WIDE, highlight=False)
    training = found.training
    several = f" on each of {training.processes} processes" if training.processes > 1 else ""
    console.print(
        f"{found.backbone}: {training.batch_size} videos{several}, {training.frames} frames, {training.words} words, "
        f"{training.precision}",
        soft_wrap=True,
    )
    for table in (_parts(found.prediction), _fits(found), _savings(found.savings)):
        console.print(table)
    best = next((saving for saving in found.savings if saving.saved > 0), None)
    if best is not None:
        console.print(f"most is saved by  {best.switch.options}", soft_wrap=True)
    console.print(
        f"reserve           {RESERVE}: CUDA context, libraries, fragmentation; not in the peak", soft_wrap=True
    )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _parts(prediction: Prediction) -> RenderableType:
    table = Table("at the peak", title="predicted peak of a training step", title_justify="left")
    for head in ("memory", "share"):
        table.add_column(head, justify="right")
    shown = [part for part in PARTS if prediction.parts[part] >= _SMALLEST]
    for part in shown:
        size = prediction.parts[part]
        table.add_row(part, gigabytes(size), f"{size / prediction.peak:.0%}", end_section=part == shown[-1])
    table.add_row("peak", gigabytes(prediction.peak), "")
    return table


def _fits(found: Found) -> RenderableType:
    table = Table("GPU", "this batch", title="what fits", title_justify="left")
    for head in ("largest batch of a process", "its peak"):
        table.add_column(head, justify="right")
    for fit in found.fits:
        fits = "fits" if found.prediction.peak <= usable(fit.gigabytes) else "does not fit"
        batch = f"{fit.batch_size} or more" if fit.at_least else str(fit.batch_size or "none")
        table.add_row(f"{fit.gigabytes} GB", fits, batch, "" if fit.peak is None else gigabytes(fit.peak))
    return table


def _savings(savings: list[Saving]) -> RenderableType:
    table = Table("switch", title="what would help", title_justify="left")
    for head in ("peak", "saved"):
        table.add_column(head, justify="right")
    table.add_column("price")
    for rank, saving in enumerate(savings):
        options = saving.switch.options.replace(" --", "\n--")
        best = "best: " if rank == 0 and saving.saved > 0 else ""
        table.add_row(
            f"{best}{options}", gigabytes(saving.prediction.peak), gigabytes(saving.saved), saving.switch.price
        )
    return table
