"""Results as tables, for the terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from centerclip_pl.files import replacing

DETAILS = "details"
Rows = list[list[str]]
"""The first row is the head."""

WIDE = 160
"""Columns of a terminal that has room for details."""

START, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
"""Between these lines of a Markdown file the tables stand."""


def measured_rows(content: dict[str, Any]) -> Rows:
    """What has a ratio."""
    rows = [["measured", "ratio", "quartiles", "to reach", "operations allow", "of that", DETAILS]]
    for entry in content["measured"]:
        ratio = entry["ratio"]
        mark = " (wrong)" if entry.get("wrong") else " (missed)" if entry["reached"] is False else ""
        rows.append(
            [
                ": ".join(filter(None, (entry["group"], entry["what"]))),
                # A third digit where a bound is missed: 1.498 is below 1.5.
                ("not measured" if ratio is None else f"{ratio['median']:.{3 if mark else 2}f}") + mark,
                "" if ratio is None or ratio["repetitions"] == 1 else f"{ratio['low']:.2f} to {ratio['high']:.2f}",
                _bound(entry),
                _number(entry["possible"]),
                "" if entry.get("near") is None else f"{entry['near']:.0%}",
                entry["detail"],
            ]
        )
    return rows


def part_rows(content: dict[str, Any]) -> Rows:
    """Reducers and heads."""
    rows = [["part", "forward ms", "with backward ms", "GMACs", "peak MiB", "share reducing"]]
    for entry in content["parts"]:
        rows.append(
            [
                f"{entry['group']}: {entry['what']}",
                f"{entry['forward_ms']:.1f}",
                "" if entry["both_ms"] is None else f"{entry['both_ms']:.1f}",
                f"{entry['gmacs']:.3g}" if entry["gmacs"] < 1 else f"{entry['gmacs']:.1f}",
                f"{entry['peak_mib']:.0f}",
                "" if entry["share"] is None else f"{entry['share']:.1%}",
            ]
        )
    return rows


def _bound(entry: dict[str, Any]) -> str:
    for key, words in (("at_most", "at most"), ("at_least", "at least")):
        if entry[key] is not None:
            return f"{words} {entry[key]:.2f}"
    return ""


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def caption(content: dict[str, Any]) -> str:
    """Where, with what and when the figures were measured."""
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    environment = " ".join(f"{name}={value}" for name, value in content["environment"].items())
    entries = [*content["measured"], *content["parts"]]
    commits = sorted({str(entry.get("commit", content["commit"])) for entry in entries})
    parts = [content["device"], versions, environment, f"commit {', '.join(commits)}", content["date"][:10]]
    quick = "quick, toy sizes: the figures mean nothing. " if content.get("quick") else ""
    return quick + "; ".join(filter(None, parts))


def _tables(content: dict[str, Any]) -> Iterable[Rows]:
    return (rows for rows in (measured_rows(content), part_rows(content)) if len(rows) > 1)


def terminal(content: dict[str, Any], width: int = WIDE) -> list[Table]:
    """For rich to print on so many columns."""
    found = []
    for rows in _tables(content):
        shown = len(rows[0]) - (rows[0][-1] == DETAILS and width < WIDE)
        table = Table(*rows[0][:shown])
        for row in rows[1:]:
            table.add_row(*row[:shown])
        found.append(table)
    if found:
        found[-1].caption, found[-1].caption_justify = caption(content), "left"
    return found


def markdown(content: dict[str, Any]) -> str:
    """All tables."""
    blocks = [*map(_markdown_table, _tables(content)), f"*{caption(content)}*"]
    return "\n\n".join(blocks)


def _markdown_table(rows: Rows) -> str:
    used = [any(row[column] for row in rows[1:]) for column in range(len(rows[0]))]
    kept = [[cell.replace("|", "\\|") for cell, use in zip(row, used, strict=True) if use] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in kept]
    return "\n".join([lines[0], f"|{' --- |' * len(kept[0])}", *lines[1:]])


def put_into(path: Path, text: str) -> None:
    """Replaces what stands between the marks of a Markdown file.

    Raises:
        ValueError: the file does not have both marks, once each and in this order.
    """
    before = path.read_text()
    if before.count(START) != 1 or before.count(END) != 1 or before.index(START) > before.index(END):
        raise ValueError(f"{path} does not have the lines {START} and {END}, once each and in this order")
    between = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    with replacing(path) as part:
        part.write_text(between.sub(lambda _: f"{START}\n{text}\n{END}", before))
