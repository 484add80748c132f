"""Ours against published figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.naming import as_heading, in_short, title
from centerclip_pl.plots.style import FAINT, INK, PAGE_INCHES, headline, legend_above, new_figure, style
from centerclip_pl.plots.tables import numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE = "#0072b2"
_COLUMNS = ("name", "published")


def against_published(
    table: pd.DataFrame,
    value: str = "t2v/R@1",
    *,
    small: str = "",
    heading: str | None = None,
    width: float = PAGE_INCHES,
) -> Figure:
    """A line for each published row: the published figure, and ours where it was run.

    Args:
        table: one row for each published one: ``name`` (in words), ``published`` (NaN: not published), and where there
            are runs ``ours`` (NaN: not run), ``low`` and ``high`` (an interval; NaN: none), and ``comparable`` (bool:
            whether nothing is known that makes the two not comparable).
        value: the metric.
        small: the small print, such as what the intervals are.
        heading: the title.
        width: in inches.

    Returns:
        The figure; runs that are not comparable have a hollow mark and are called so.

    Raises:
        DataError: columns are missing, or nothing was published.
    """
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"a picture of published figures needs the column {missing[0]}", "see against_published")
    published = numbers(table, "published")
    if not np.isfinite(published).any():
        raise DataError(f"no published row has a figure of {value}", "choose a metric of experiments/papers")
    ours, low, high = (numbers(table, name) for name in ("ours", "low", "high"))
    same = table["comparable"].to_numpy(dtype=bool) if "comparable" in table.columns else np.ones(len(table), bool)
    places = np.arange(len(table))[::-1]
    run = np.isfinite(ours)
    with style():
        figure = new_figure(width, 1.45 + 0.24 * len(table))
        axes = figure.subplots()
        both = run & np.isfinite(published)
        axes.hlines(places[both], published[both], ours[both], color=FAINT, linewidth=0.8, linestyle=":")
        axes.plot(published, places, "D", color=INK, markersize=4.5, label="published")
        known = run & np.isfinite(low) & np.isfinite(high)
        if known.any():
            reach = np.stack([np.maximum(ours - low, 0), np.maximum(high - ours, 0)])
            axes.errorbar(
                ours[known], places[known], xerr=reach[:, known], fmt="none", ecolor=_BLUE, elinewidth=1.2, capsize=2
            )
        if (run & same).any():
            axes.plot(ours[run & same], places[run & same], "o", color=_BLUE, label="ours, comparable")
        if (run & ~same).any():
            axes.plot(
                ours[run & ~same],
                places[run & ~same],
                "o",
                color=_BLUE,
                markerfacecolor="white",
                label="ours, not comparable",
            )
        for place, theirs, mine in zip(places, published, ours, strict=True):
            if np.isnan(mine):
                text = "not run"
            elif np.isnan(theirs):
                text = "not published"
            else:
                text = f"{round(mine, 1) - round(theirs, 1):+.1f}".replace("-", "\N{MINUS SIGN}")
            axes.annotate(
                text,
                (1.01, place),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=6.5,
                color=FAINT if np.isnan(mine) else INK,
            )
        axes.set_yticks(places, list(table["name"]))
        axes.set_ylim(-0.6, len(table) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.05)
        axes.set_xlabel(title(value))
        axes.grid(axis="x")
        legend_above(axes, figure)
        headline(figure, heading or as_heading(f"{in_short(value)}: ours and published"), small)
    return figure
