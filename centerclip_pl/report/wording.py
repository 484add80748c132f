"""Numbers as the report says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from centerclip_pl.plots.naming import is_given, title


def counted(number: int, noun: str) -> str:
    """``1 run`` or ``1,200 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 6, mark: str = ", ") -> str:
    """``a, b and c``; of more than ``most`` the first ones and how many follow. ``mark`` stands between them."""
    if len(names) > most:
        return f"{mark.join(names[:most])}{mark}and {len(names) - most:,} more"
    if len(names) < 2 or mark != ", ":
        return mark.join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def number(value: Any, digits: int = 1) -> str:
    """A figure with so many digits behind the point; a dash where there is none."""
    return f"{float(value):,.{digits}f}" if is_given(value) else "–"


def signed(value: float, digits: int = 1) -> str:
    """A difference: ``+1.5`` or ``−1.5``."""
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def probability(p: float) -> str:
    """``0.034``, ``< 0.001``."""
    return "–" if not is_given(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def metric_words(metric: str) -> str:
    """``text to video R@1``, without its unit."""
    return title(metric).replace(" (%)", "")


def at(table: pd.DataFrame, row: int, column: str) -> Any:
    """The value of a cell, by the number of its row."""
    return table[column].iloc[row]
