"""What stands on the page: plain data, which the templates turn into HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: its heading.
        numeric: aligned to the right, and sorted by number.
        explanation: what the heading means, for a tooltip and for screen readers.
        falling: whether the first click puts the largest on top, as for recalls.
    """

    name: str
    numeric: bool = False
    explanation: str = ""
    falling: bool = False


@dataclass(frozen=True)
class Cell:
    """What stands in a table's cell.

    Args:
        text: the first line.
        small: a second line, an interval for example.
        sort: what the row is sorted by; None is always last.
        code: whether it is a command or a path.
    """

    text: str
    small: str = ""
    sort: float | str | None = None
    code: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table; ``tags`` are short marks behind its first cell, such as ``best``."""

    cells: Sequence[Cell]
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table with its caption above and notes below."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        name: part of its id, unique in a section.
        title: stands above it.
        svg: an ``<svg>`` element, safe to be put into a page as it is.
        caption: what it shows, below it.
    """

    name: str
    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class LeftOut:
    """A figure that the runs cannot give: ``why``, and what would bring it."""

    title: str
    why: str
    next_step: str = ""


@dataclass(frozen=True)
class Section:
    """Everything about the runs of one dataset, split and protocol."""

    name: str
    title: str
    facts: Sequence[tuple[str, str]]
    findings: Sequence[str]
    caveats: Sequence[str]
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    left_out: Sequence[LeftOut]
    runs: Table


@dataclass(frozen=True)
class Page:
    """The whole report.

    Args:
        title: of the page.
        created: date and time in words, with the zone.
        version: of this package.
        facts: what was read, label and value.
        sections: one for each protocol; figures of different protocols are never put together.
        notes: what concerns all sections, such as runs that could not be read.
    """

    title: str
    created: str
    version: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    notes: Sequence[str] = field(default_factory=tuple)
