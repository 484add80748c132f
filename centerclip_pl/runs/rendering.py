"""A listing for the terminal, as Markdown, and a table of runs as CSV."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from centerclip_pl.runs.columns import COST, is_metric
from centerclip_pl.runs.listing import Listing, heading

_UNLIMITED = 100_000
# What a narrow terminal does without, the first first.
_DISPENSABLE = (
    "threads",
    "dtype",
    "memory_kind",
    "v2t/MnR",
    "v2t/R@10",
    "v2t/R@5",
    "t2v/MdR",
    "memory_mb",
    "clustering_ms",
    "t2v/MnR",
    "device",
    "epochs",
    "t2v/R@10",
    "t2v/R@5",
    "encode_ms",
    "v2t/R@1",
    "selected_on",
    "selection",
    "backbone",
    "gmacs",
)


def as_text(table: Listing, *, width: int | None = None, color: bool = False) -> str:
    """For the terminal.

    Args:
        table: what to show.
        width: columns of the terminal; what does not fit is left out, and the last line names it. None: all is shown.
        color: whether the title and the headings are set off by escape sequences.
    """
    shown = list(range(len(table.columns)))
    if width is not None:
        for name in _DISPENSABLE:
            if _width(table, shown) <= width:
                break
            shown = [n for n in shown if table.columns[n] != name]
    grid = Table()
    for n in shown:
        column = table.columns[n]
        is_text = n == shown[0] or not (is_metric(column) or column in COST)
        grid.add_column(
            Text(_stacked(table.headings[n]), justify="left" if is_text else "right"),
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=width is None or not is_text,
        )
    for row in table.rows:
        grid.add_row(*(Text(row[n]) for n in shown))
    console = Console(
        file=StringIO(),
        width=_UNLIMITED if width is None else width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    console.print(Text(table.title, style="bold"), soft_wrap=width is None)
    if table.constants:
        console.print(Text(constants_line(table)), soft_wrap=width is None)
    console.print(grid)
    for note in table.footnotes:
        console.print(Text(note), soft_wrap=width is None)
    left_out = [table.columns[n] for n in range(len(table.columns)) if n not in shown]
    if left_out:
        console.print(Text(f"not shown for want of room: {', '.join(left_out)}; --columns picks, --csv has all"))
    output = console.file
    assert isinstance(output, StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def as_markdown(table: Listing) -> str:
    """A heading, the constants, a table and its footnotes."""
    lines = [f"### {escaped(table.title)}", ""]
    if table.constants:
        lines += [escaped(constants_line(table)), ""]
    align = ["---:" if is_metric(column) or column in COST else "---" for column in table.columns]
    for cells in (table.headings, align, *table.rows):
        lines.append("| " + " | ".join(escaped(text) if cells is not align else text for text in cells) + " |")
    for note in table.footnotes:
        lines += ["", escaped(note)]
    return "\n".join([*lines, ""])


def as_csv(frame: pd.DataFrame) -> str:
    """All values to ten digits; lists (the seeds and runs of a setting) are joined by semicolons."""
    flat = frame.copy()
    for name in flat.columns:
        if flat[name].map(lambda value: isinstance(value, list)).any():
            flat[name] = flat[name].map(lambda value: ";".join(map(str, value)))
    flat.columns = [heading(name) if name.count("/") > 1 else name for name in flat.columns]
    return str(flat.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def constants_line(table: Listing) -> str:
    """What all rows have in common."""
    return "all: " + ", ".join(f"{name} {value}" for name, value in table.constants)


def _width(table: Listing, shown: list[int]) -> int:
    """Columns that the table takes without wrapping, borders included; a cell may be folded at 40."""
    cells: list[list[Any]] = [[_stacked(table.headings[n]), *(row[n] for row in table.rows)] for n in shown]
    longest = [max(min(len(line), 40) for text in column for line in text.split("\n")) for column in cells]
    return sum(longest) + 3 * len(longest) + 1


def _stacked(name: str) -> str:
    """A long heading in several lines."""
    return name.replace("/t2v", "\nt2v").replace("/v2t", "\nv2t").replace(" ", "\n") if len(name) > 10 else name


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    text = " ".join(text.splitlines())  # a line that ends would end the row of a table
    for character in "\\|*_`<>[]":
        text = text.replace(character, f"\\{character}")
    return text
