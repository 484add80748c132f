"""What chance does: the seeds of each setting, and the differences from a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.naming import as_heading, in_short, more_is_better, setting_names, title
from centerclip_pl.plots.style import FAINT, INK, PAGE_INCHES, headline, legend_above, new_figure, style
from centerclip_pl.plots.tables import interval, numbers, over_queries, require, seed_counts, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE = "#0072b2"


def seed_spread(
    summary: pd.DataFrame,
    runs: pd.DataFrame,
    value: str = "t2v/R@1",
    *,
    heading: str | None = None,
    width: float = PAGE_INCHES,
) -> Figure:
    """A line for each setting: a dot for each seed, the mean, and the interval over queries.

    Args:
        summary: of :func:`centerclip_pl.statistics.summarise`; the best setting is drawn at the top.
        runs: the runs that it summarises, of :func:`centerclip_pl.runs.read_runs`.
        value: a metric.
        heading: the title.
        width: in inches.

    Returns:
        The figure. Settings with one seed say so.

    Raises:
        DataError: nothing to draw, a mix of protocols, or runs that are not those of ``summary``.
    """
    name = f"a picture of the seeds' {value}"
    require(summary, ("runs", value), name)
    require(runs, ("run", value), name)
    summary = summary[np.isfinite(numbers(summary, value))]
    if summary.empty:
        raise DataError(f"{name}: no run has a value of {value}", "test again with this version")
    of_run = dict(zip(runs["run"].astype(str), numbers(runs, value), strict=True))
    unknown = [str(run) for part in summary["runs"] for run in part if str(run) not in of_run]
    if unknown:
        raise DataError(f"{name}: {unknown[0]} is summarised, but not among the runs", "summarise these runs")
    order = np.argsort(numbers(summary, value) * (1 if more_is_better(value) else -1), kind="stable")
    summary = summary.iloc[order]
    names = setting_names(summary)
    mean, reach, counts = numbers(summary, value), interval(summary, value), seed_counts(summary)
    places = np.arange(len(summary))
    with style():
        figure = new_figure(width, 1.45 + 0.27 * len(summary))
        axes = figure.subplots()
        known = np.isfinite(reach).all(axis=0)
        if known.any():
            axes.errorbar(
                mean[known],
                places[known],
                xerr=reach[:, known],
                fmt="none",
                ecolor="#9a9a9a",
                elinewidth=4,
                zorder=1,
                label=over_queries(summary),
            )
        dots = [(of_run[str(run)], place) for place, part in zip(places, summary["runs"], strict=True) for run in part]
        several = counts > 1
        axes.plot(
            *zip(*dots, strict=True),
            "o",
            color=_BLUE,
            markersize=4,
            markerfacecolor="white",
            zorder=3,
            label="one seed each",
        )
        if several.any():
            axes.plot(
                mean[several],
                places[several],
                "|",
                color=INK,
                markersize=11,
                markeredgewidth=2,
                zorder=2,
                label="mean over seeds",
            )
        axes.set_yticks(
            places, [f"{n} (one seed)" if c <= 1 and several.any() else n for n, c in zip(names, counts, strict=True)]
        )
        axes.set_ylim(-0.6, len(summary) - 0.4)
        axes.set_xlabel(title(value))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        legend_above(axes, figure)
        headline(figure, heading or as_heading(f"{in_short(value)} of every seed"), small_print(summary, value))
    return figure


def differences(
    names: Sequence[str],
    difference: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    reference: str,
    value: str = "t2v/R@1",
    told: Sequence[bool] | None = None,
    notes: Sequence[str] | None = None,
    small: str = "",
    heading: str | None = None,
    width: float = PAGE_INCHES,
) -> Figure:
    """Differences from a reference with their intervals, on a line for each setting.

    Args:
        names: N settings.
        difference: setting less reference, in the unit of ``value``.
        low: ends of the intervals; NaN: none.
        high: likewise.
        reference: what it is compared with.
        value: the metric.
        told: N times whether the setting can be told from the reference, such as after Holm's correction; by default,
            whether its own interval leaves out 0.
        notes: N short texts for the right margin, such as p-values.
        small: the small print: what the intervals are, which tests.
        heading: the title.
        width: in inches.

    Returns:
        The figure; filled marks are told apart from the reference.

    Raises:
        DataError: nothing to draw.
    """
    middle, below, above = (np.asarray(part, dtype=float) for part in (difference, low, high))
    if not len(names) or not np.isfinite(middle).any():
        raise DataError(
            f"there is nothing to compare with {reference}", "several methods are needed: make sweep SWEEP=method"
        )
    places = np.arange(len(names))[::-1]
    known = np.isfinite(below) & np.isfinite(above)
    clear = known & (((below > 0) | (above < 0)) if told is None else np.asarray(told, dtype=bool))
    with style():
        figure = new_figure(width, 1.45 + 0.27 * len(names))
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=1)
        if known.any():
            reach = np.stack([np.maximum(middle - below, 0), np.maximum(above - middle, 0)])
            axes.errorbar(
                middle[known],
                places[known],
                xerr=reach[:, known],
                fmt="none",
                ecolor=_BLUE,
                elinewidth=1.3,
                capsize=2.5,
            )
        axes.plot(
            middle[clear], places[clear], "o", color=_BLUE, label="interval without 0" if told is None else "told apart"
        )
        unclear = known & ~clear
        axes.plot(
            middle[unclear], places[unclear], "o", color=_BLUE, markerfacecolor="white", label="cannot be told apart"
        )
        if (~known).any():
            axes.plot(middle[~known], places[~known], "x", color=FAINT, label="no interval")
        axes.set_yticks(places, list(names))
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        points = " (points)" if more_is_better(value) else ""
        axes.set_xlabel(f"difference in {in_short(value)}{points}, {_side(value)}")
        axes.grid(axis="x")
        for place, text in zip(places, notes or (), strict=bool(notes)):
            axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=6.5, color=INK)
        legend_above(axes, figure)
        headline(figure, heading or f"Against {reference}", small)
    return figure


def _side(value: str) -> str:
    return "right of 0 is better" if more_is_better(value) else "left of 0 is better"
