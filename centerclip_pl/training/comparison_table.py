"""Published rows, and a run beside one of them, as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table

from centerclip_pl.training.comparison import MARGIN, Comparison
from centerclip_pl.training.published import DIRECTIONS, FIGURES, PublishedRow

_IN_WORDS = {"t2v": "text to video", "v2t": "video to text"}


def format_tables(tables: dict[str, list[PublishedRow]], *, width: int = 100) -> str:
    """The names of the published tables, what they are, and how many rows each has."""
    table = Table()
    table.add_column("dataset")
    table.add_column("")
    table.add_column("rows", justify="right")
    table.add_column("source")
    for name, rows in tables.items():
        table.add_row(name, rows[0].title, str(len(rows)), rows[0].source)
    return _as_text(table, width)


def format_rows(rows: Sequence[PublishedRow], *, width: int = 100) -> str:
    """The rows of a published table, numbered from 1."""
    first = rows[0]
    table = Table()
    for name in ("row", "method", "backbone", "S", "K"):
        table.add_column(name, justify="left" if name in ("method", "backbone") else "right", no_wrap=True)
    recalls = [figure for figure in FIGURES if figure.startswith("R@")]
    for way in DIRECTIONS:  # one column for three figures: in six of them nothing would fit
        table.add_column(f"{_IN_WORDS[way]}\n{' '.join(map(_padded, recalls))}", justify="right", no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for row in rows:
        figures = [
            " ".join(_padded(_number(row.figures.get(f"{way}/{recall}")) or "-") for recall in recalls)
            for way in DIRECTIONS
        ]
        tokens = ["" if value is None else str(value) for value in (row.segments, row.clusters)]
        cost = [_number(row.memory_gb), _number(row.ms_per_video)]
        table.add_row(str(row.number), row.method, row.backbone, *tokens, *figures, *cost)
    legend = f"S segments of K tokens; GB of a GPU in training and ms a video on {first.hardware}."
    return _as_text(Group(f"{first.title} ({first.source})", table, legend), width)


def format_comparison(comparison: Comparison, *, width: int = 100) -> str:
    """The figures of a run and of the published row, their differences, the cost, and what is not as published."""
    row = comparison.row
    title = f"{row.table}, row {row.number}: {row.name} ({row.source})"
    parts: list[RenderableType] = [title, _figures(comparison)]
    if any(comparison.is_marked(f"{way}/{figure}") for way in DIRECTIONS for figure in FIGURES):
        parts.append(f"* a recall that differs by more than {MARGIN:g} point")
    cost = _cost(comparison)
    if cost is not None:
        parts.append(cost)
    for title, sentences in (("not as published", comparison.reasons), ("note", comparison.notes)):
        if sentences:
            parts += [f"{title}:", _list(sentences)]
    if not comparison.reasons:
        parts.append("Everything that results.json and config.yaml record is as published.")
    return _as_text(Group(*parts), width)


def _figures(comparison: Comparison) -> RenderableType:
    table = Table()
    table.add_column("")
    for figure in FIGURES:
        table.add_column(figure, justify="right")
    for way in DIRECTIONS:
        keys = [f"{way}/{figure}" for figure in FIGURES]
        table.add_row(f"{_IN_WORDS[way]}, ours", *(_number(comparison.ours(key)) for key in keys))
        table.add_row("published", *(_number(comparison.row.figures.get(key)) for key in keys))
        table.add_row("difference", *(_difference(comparison, key) for key in keys), end_section=True)
    return table


def _difference(comparison: Comparison, key: str) -> str:
    difference = comparison.difference(key)
    if difference is None:
        return ""
    return f"{difference + 0.0:+.1f}{'*' if comparison.is_marked(key) else ''}"


def _cost(comparison: Comparison) -> RenderableType | None:
    """Memory and time where both are known; never a difference, because the machines differ."""
    row, cost = comparison.row, comparison.results["cost"]
    table = Table()
    for name in ("", "ours", "published"):
        table.add_column(name, justify="right" if name else "left")
    if comparison.training_memory_gb is not None and row.memory_gb is not None:
        table.add_row("training, GB of a GPU", f"{comparison.training_memory_gb:.1f}", f"{row.memory_gb:.1f}")
    if cost is not None and row.ms_per_video is not None:
        table.add_row("ms a video", f"{cost['encode_ms_per_video']:.1f}", f"{row.ms_per_video:.1f}")
    if not table.row_count:
        return None
    ours_on = "not recorded" if cost is None else cost["device"]
    table.add_row("hardware", ours_on, row.hardware)
    if row.hardware in ours_on:
        return table
    return Group(table, "On other hardware: memory and time say little about the method.")


def _list(sentences: Sequence[str]) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for sentence in sentences:
        grid.add_row(" -", sentence)
    return grid


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _padded(text: str) -> str:
    return f"{text:>4}"


def _as_text(content: RenderableType, width: int) -> str:
    console = Console(
        file=StringIO(), width=width, force_terminal=False, color_system=None, highlight=False, markup=False
    )
    console.print(content)
    output = console.file
    assert isinstance(output, StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())
