"""A table of two options as a map of colours: recall, or cost, over segments and clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.naming import as_heading, is_cost, more_is_better, setting_columns, shown, title
from centerclip_pl.plots.style import COLOUR_MAP, FAINT, PAGE_INCHES, headline, new_figure, readable_on, style
from centerclip_pl.plots.tables import (
    format_value,
    numbers,
    require,
    require_several,
    seed_counts,
    small_print,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_AXES = {
    "segments": "segments of a video",
    "clusters": "tokens kept of a segment",
    "after_block": "clustering after block",
}


def heat_map(
    summary: pd.DataFrame,
    value: str = "t2v/R@1",
    *,
    row: str = "segments",
    column: str = "clusters",
    heading: str | None = None,
    reference: tuple[str, float] | None = None,
    width: float = PAGE_INCHES / 2,
) -> Figure:
    """One cell for each pair of options; the best has a frame, pairs that were not run stay blank.

    Args:
        summary: of :func:`centerclip_pl.statistics.summarise`, the rows of one method. Rows without ``row`` or
            ``column`` (a baseline) are left out.
        value: a metric or a cost of the table.
        row: the option from bottom to top.
        column: the option from left to right.
        heading: the title; by default what is shown.
        reference: name and value of something to compare with, e.g. ``("baseline", 73.5)``: a line in the colour bar.
        width: in inches.

    Returns:
        The figure; cells with several seeds say mean ± standard deviation over them.

    Raises:
        DataError: nothing to draw, a mix of protocols, or a cell with two settings.
    """
    figure_name = f"a heat map of {value} over {row} and {column}"
    require(summary, (row, column, value), figure_name)
    summary = summary[summary[row].notna() & summary[column].notna()]
    if summary.empty:
        raise DataError(f"{figure_name} needs runs that have both, and there is none", "make sweep SWEEP=segments")
    if summary[row].nunique() < 2:
        require_several(summary, column, figure_name)
    _require_one_a_cell(summary, row, column, figure_name)
    rows, columns = sorted(summary[row].unique()), sorted(summary[column].unique())
    cells = np.full((len(rows), len(columns)), np.nan)
    places = [(rows.index(r), columns.index(c)) for r, c in zip(summary[row], summary[column], strict=True)]
    for place, number in zip(places, numbers(summary, value), strict=True):
        cells[place] = number
    if not np.isfinite(cells).any():
        raise DataError(f"{figure_name}: no run has a value of {value}", "test again with this version")
    with style():
        figure = new_figure(width, 1.45 + 0.42 * len(rows))
        axes = figure.subplots()
        image = _cells(axes, cells)
        axes.set_xticks(range(len(columns)), [shown(name) for name in columns])
        axes.set_yticks(range(len(rows)), [shown(name) for name in rows])
        axes.set_xlabel(_AXES.get(column, column))
        axes.set_ylabel(_AXES.get(row, row))
        spread = numbers(summary, f"{value} std")
        _annotate(axes, image, cells, dict(zip(places, spread, strict=True)), value, width)
        _frame_best(axes, cells, value)
        bar = figure.colorbar(image, ax=axes, label=title(value))
        bar.outline.set_linewidth(0.5)
        if reference is not None:
            _mark(bar.ax, reference, image)
        headline(figure, heading or as_heading(title(value)), _note(summary, value, spread, cells, reference))
    return figure


def _require_one_a_cell(summary: pd.DataFrame, row: str, column: str, figure: str) -> None:
    twice = summary[summary.duplicated([row, column], keep=False)]
    if twice.empty:
        return
    first = twice[(twice[row] == twice[row].iloc[0]) & (twice[column] == twice[column].iloc[0])]
    differ = [
        f"{name} ({', '.join(dict.fromkeys(shown(v) for v in first[name]))})"
        for name in setting_columns(summary)
        if len({shown(v) for v in first[name]}) > 1
    ]
    what = f"they differ in {', '.join(differ)}" if differ else "they are the same setting: summarise the runs first"
    raise DataError(
        f"{figure} has one place for each pair, and {len(first)} settings have {row} {shown(first[row].iloc[0])} and "
        f"{column} {shown(first[column].iloc[0])}; {what}",
        "draw each alone, e.g. summary[summary['method'] == 'kmedoids']; centerclip_pl.plots.groups separates them",
    )


def _cells(axes: Axes, cells: np.ndarray) -> AxesImage:
    low, high = float(np.nanmin(cells)), float(np.nanmax(cells))
    if low == high:  # one colour, in the middle of the bar
        low, high = low - 0.5, high + 0.5
    image = axes.imshow(
        np.ma.masked_invalid(cells), cmap=COLOUR_MAP, vmin=low, vmax=high, origin="lower", aspect="auto"
    )
    axes.set_xticks(np.arange(-0.5, cells.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, cells.shape[0]), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.set_axisbelow(False)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return image


def _annotate(
    axes: Axes,
    image: AxesImage,
    cells: np.ndarray,
    spread: dict[tuple[int, int], float],
    value: str,
    width: float,
) -> None:
    size = float(np.clip(72 * 0.62 * width / cells.shape[1] / 6.2, 4.5, 7.5))  # the widest text is about ten letters
    for (r, c), number in np.ndenumerate(cells):
        if np.isnan(number):
            axes.text(c, r, "not run", ha="center", va="center", fontsize=min(size, 6), color=FAINT, style="italic")
            continue
        text = format_value(value, number)
        if np.isfinite(std := spread.get((r, c), np.nan)):
            text += f" ± {format_value(value, std)}"
        colour = readable_on(image.cmap(image.norm(number)))
        axes.text(c, r, text, ha="center", va="center", fontsize=size, color=colour)


def _frame_best(axes: Axes, cells: np.ndarray, value: str) -> None:
    from matplotlib.patches import Rectangle

    best = np.nanmax(cells) if more_is_better(value) else np.nanmin(cells)
    for r, c in np.argwhere(cells == best):
        frame = Rectangle((c - 0.46, r - 0.44), 0.92, 0.88, fill=False, edgecolor="#d55e00", linewidth=1.8, zorder=4)
        frame.set_gid("best")
        axes.add_patch(frame)


def _mark(axes: Axes, reference: tuple[str, float], image: AxesImage) -> None:
    low, high = image.get_clim()
    if low is not None and high is not None and low <= reference[1] <= high:
        axes.axhline(reference[1], color="#d55e00", linewidth=1.6, linestyle=(0, (2, 1)))


def _note(
    summary: pd.DataFrame,
    value: str,
    spread: np.ndarray,
    cells: np.ndarray,
    reference: tuple[str, float] | None,
) -> str:
    counts = seed_counts(summary)
    parts = []
    if np.isfinite(spread).any():
        parts.append("mean ± standard deviation over seeds")
        if (counts <= 1).any():
            parts.append("cells without ± have one seed")
    elif is_cost(value) and (counts > 1).any():
        parts.append("medians over the seeds")
    parts.append(f"the frame marks the {'highest' if more_is_better(value) else 'lowest'}")
    if reference is not None:
        parts.append(f"{reference[0]}: {format_value(value, reference[1])}")
    return small_print(summary, value, more="; ".join(parts))
