"""A `Comparison` as text: for the terminal, or as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from centerclip_pl.runs.rendering import escaped

if TYPE_CHECKING:
    from centerclip_pl.statistics import Comparison, CostComparison, MetricComparison


def format_comparison(found: Comparison, *, markdown: bool = False, width: int = 100) -> str:
    """The verdict, a table of metrics, the cost, and what to know besides.

    Args:
        found: of ``centerclip_pl.statistics.compare``.
        markdown: tables as Markdown in place of lines for the terminal.
        width: columns of the terminal.
    """
    sentences = found.sentences()
    if found.same_runs:
        return sentences
    queries = f"{found.dataset}, {found.split}, {found.protocol}: {found.texts:,} texts, {found.videos:,} videos"
    sides = [
        f"{name}: {side.label}; {_seeds(side.seeds)}; {', '.join(side.runs)}"
        for name, side in (("A", found.a), ("B", found.b))
    ]
    table = _table(
        ["", "A", "B", "B - A", f"{100 * found.confidence:g} % interval", "p", "better"],
        [_metric(each) for each in found.metrics],
        markdown,
        width,
    )
    cost = _table(["cost", "A", "B", "B / A"], [_cost(each) for each in found.costs], markdown, width)
    parts = [
        f"**{sentences}**" if markdown else sentences,
        _lines([queries, *sides], markdown),
        table,
        _tests(found),
    ]
    parts += [cost] if found.costs else []
    parts += [_lines([f"note: {note}" for note in found.notes], markdown)] if found.notes else []
    return "\n\n".join(parts)


def _seeds(seeds: Sequence[int | None]) -> str:
    known = ", ".join("none" if each is None else str(each) for each in seeds)
    return f"seed{'s' if len(seeds) > 1 else ''} {known}"


def _metric(each: MetricComparison) -> list[str]:
    difference = each.difference
    name = f"{each.name} *" if each.name.count("/") > 1 else each.name
    row = [name, *(_spread(side.mean, side.std) for side in (each.a, each.b)), _signed(difference.value)]
    if math.isnan(difference.low):
        return [*row, "", "", ""]
    p = "" if difference.p is None else "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}"
    better = {"A is better": "A", "B is better": "B"}.get(each.verdict, "?")
    return [*row, f"{_signed(difference.low)} to {_signed(difference.high)}", p, better]


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # no -0.0


def _spread(mean: float, std: float) -> str:
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def _cost(each: CostComparison) -> list[str]:
    ratio = f"{each.ratio:.2f}" if each.ratio is not None else "" if each.reason is None else f"({each.reason})"
    return [each.unit, f"{each.a:.4g}", f"{each.b:.4g}", ratio]


def _tests(found: Comparison) -> str:
    """Which tests the table shows, and what the others say of the metric of the verdict."""
    from centerclip_pl.statistics.verdict import say_p

    main = found.main
    if found.of_methods:
        said = "?: cannot be told. Intervals and p: other videos and other seeds (t). ±: standard deviation over seeds."
        if main.p_videos is not None:
            said += f" {main.name}, for these trained models alone: {say_p(main.p_videos)} (sign flips over videos)."
    else:
        said = "?: cannot be told. Intervals: other videos (bootstrap). p: sign flips over videos; none for medians."
    if main.mcnemar is not None:
        exact = main.mcnemar
        said += (
            f" {main.name}: {exact.only_a} queries found by A alone, {exact.only_b} by B alone, exact McNemar "
            f"{say_p(exact.p)}."
        )
    mean_rank = next((each for each in found.metrics if each.name == f"{_family(main.name)}/MnR"), None)
    if mean_rank is not None and mean_rank.p_wilcoxon is not None:
        said += f" Ranks of {_family(main.name)}: Wilcoxon {say_p(mean_rank.p_wilcoxon)}."
    if len(main.by_seed) > 1:
        said += (
            " Seed by seed: " + ", ".join(f"{_signed(value)} ({seed})" for seed, value in main.by_seed.items()) + "."
        )
    if any(math.isnan(each.difference.low) for each in found.metrics):
        said += " Rows without an interval are of metrics whose ranks are not recorded."
    if any(each.name.count("/") > 1 for each in found.metrics):
        said += " *: transductive, the scores were changed with the help of other queries."
    return f"{said} Every p is of one metric by itself; the verdict is about {main.name}."


def _family(metric: str) -> str:
    return metric.rpartition("/")[0]


def _lines(lines: Sequence[str], markdown: bool) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines) if markdown else "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool, width: int) -> str:
    if markdown:
        rule = ["---", *["---:"] * (len(head) - 1)]
        lines = [head, rule, *rows]
        return "\n".join(
            "| " + " | ".join(cell if line is rule else escaped(cell) for cell in line) + " |" for line in lines
        )
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for n, name in enumerate(head):
        table.add_column(name, justify="right" if n else "left", no_wrap=n < len(head) - 1)
    family = None
    for row in rows:
        if family is not None and _family(row[0]) != family:
            table.add_section()
        family = _family(row[0])
        table.add_row(*row)
    console = Console(
        file=StringIO(), width=width, force_terminal=False, color_system=None, highlight=False, markup=False
    )
    console.print(table)
    output = console.file
    assert isinstance(output, StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().strip("\n").splitlines())
