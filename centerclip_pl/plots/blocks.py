"""Where to cluster: accuracy and cost over the block after which tokens are clustered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.naming import in_short, shown, title
from centerclip_pl.plots.pareto import interval_bars, require_one_device
from centerclip_pl.plots.style import INK, NARROW_INCHES, PAGE_INCHES, Look, headline, looks, new_figure, style
from centerclip_pl.plots.tables import (
    groups,
    has_values,
    interval,
    numbers,
    over_queries,
    require,
    require_several,
    small_print,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLOCK = "after_block"
_MOST = 8


def over_blocks(
    summary: pd.DataFrame,
    value: str = "t2v/R@1",
    *,
    cost: str = "gmacs",
    heading: str | None = None,
    width: float = PAGE_INCHES,
) -> Figure:
    """A line for each setting that was run after several blocks; above the metric, below the cost.

    Args:
        summary: of :func:`centerclip_pl.statistics.summarise`. Rows of a method called ``baseline`` become a level
            line; settings with one block are left out.
        value: a metric.
        cost: a column of costs; the lower panel is left out where no row has it.
        heading: the title.
        width: in inches.

    Returns:
        The figure.

    Raises:
        DataError: no setting has several blocks, or a mix of protocols.
    """
    name = f"a picture of {value} over blocks"
    require(summary, ("method", _BLOCK, value), name)
    clustered = summary[summary[_BLOCK].notna() & np.isfinite(numbers(summary, value))]
    require_several(clustered, _BLOCK, name)
    lines = [part for part in groups(clustered, (_BLOCK,)) if part[1][_BLOCK].nunique() > 1]
    if not lines:
        raise DataError(
            f"{name} needs one setting with several after_block; here every other block has other options as well",
            "make them with: make sweep SWEEP=block",
        )
    left_out, lines = max(0, len(lines) - _MOST), lines[:_MOST]
    baseline = summary[(summary["method"] == "baseline") & np.isfinite(numbers(summary, value))]
    drawn = pd.concat([part for _, part in lines])
    drawn.attrs = dict(summary.attrs)
    with_cost = has_values(drawn, cost)
    if with_cost:
        require_one_device(pd.concat([drawn, baseline]), cost, name)
    rests = [f"bars: {over_queries(summary)}"]
    more = f"{left_out} more settings are not drawn" if left_out else ""
    with style():
        figure = new_figure(width, 0.5 * width + (2.2 if with_cost else 1.2))
        panels = figure.subplots(
            2 if with_cost else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 2][: 1 + with_cost]
        )
        for axes, column in zip(panels[:, 0], (value, cost), strict=False):
            _panel(axes, lines, baseline, column)
        last = panels[-1, 0]
        last.set_xlabel("clustering after block (counted from 1)")
        last.set_xticks(sorted(drawn[_BLOCK].unique()), [shown(block) for block in sorted(drawn[_BLOCK].unique())])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        if len(labels) > 1 or labels[0]:
            place = (
                {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": 1 if len(lines) > 1 else 2}
                if width < NARROW_INCHES
                else {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
            )
            panels[0, 0].legend(handles, labels, handlelength=3.2, **place)
        both = f" and {title(cost)}" if with_cost else ""
        note = small_print(drawn, value, bars=rests[0], more=more)
        headline(figure, heading or f"Where to cluster: {in_short(value)}{both}", note)
    return figure


def _panel(axes: Axes, lines: list[tuple[str, pd.DataFrame]], baseline: pd.DataFrame, column: str) -> None:
    names = [name or shown(part["method"].iloc[0]) for name, part in lines]
    spread = 0.05 * (np.arange(len(lines)) - (len(lines) - 1) / 2)  # bars of several lines do not cover each other
    for shift, name, look, (_, part) in zip(spread, names, _looks(names), lines, strict=True):
        part = part.sort_values(_BLOCK)
        x, y, reach = numbers(part, _BLOCK) + shift, numbers(part, column), interval(part, column)
        axes.plot(x, y, color=look.colour, marker=look.marker, linestyle=look.line, label=name)
        interval_bars(axes, x, y, reach, look.colour)
    level = numbers(baseline, column)
    if np.isfinite(level).any():
        axes.axhline(float(np.nanmax(level)), color=INK, linestyle=(0, (1, 1.5)), linewidth=1.2, label="baseline")
    axes.set_ylabel(title(column))
    axes.grid(axis="y")
    axes.margins(x=0.06)


def _looks(names: list[str]) -> list[Look]:
    found = looks([f"line {number}" for number in range(len(names))])
    return list(found.values())
