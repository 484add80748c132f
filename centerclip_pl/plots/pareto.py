"""Accuracy against cost, with the front of settings that no other beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.label_places import along, place_labels
from centerclip_pl.plots.naming import as_heading, in_short, more_is_better, named_with_common, shown, title
from centerclip_pl.plots.style import INK, NARROW_INCHES, PAGE_INCHES, headline, looks, new_figure, style
from centerclip_pl.plots.tables import interval, numbers, over_queries, require, small_print

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEASURED = ("encode_ms", "clustering_ms", "memory_mb")


def front(cost: np.ndarray, value: np.ndarray, *, more_is_better: bool = True) -> np.ndarray:
    """Which points no other point beats: none is cheaper and as good, or better and as cheap.

    Args:
        cost: [N], less is better.
        value: [N].
        more_is_better: for ``value``.

    Returns:
        Indices of the front, from cheap to expensive; of equal points all. Points with NaN are on no front.
    """
    good = np.asarray(value, dtype=float) if more_is_better else -np.asarray(value, dtype=float)
    cost = np.asarray(cost, dtype=float)
    known = np.flatnonzero(np.isfinite(good) & np.isfinite(cost))
    # No point of a table is so cheap and good that comparing each with each would matter: a sweep has hundreds.
    beaten = [
        bool(
            np.any(
                (cost[known] <= cost[i])
                & (good[known] >= good[i])
                & ((cost[known] < cost[i]) | (good[known] > good[i]))
            )
        )
        for i in known
    ]
    kept = known[~np.array(beaten, dtype=bool)]
    return kept[np.lexsort((good[kept], cost[kept]))]


def pareto(
    summary: pd.DataFrame,
    cost: str = "gmacs",
    value: str = "t2v/R@1",
    *,
    heading: str | None = None,
    bars: str | None = None,
    width: float = PAGE_INCHES,
) -> Figure:
    """A point for each setting, its interval as a bar, the front as a line of steps.

    Args:
        summary: of :func:`centerclip_pl.statistics.summarise`. A table of one's own needs ``method``, the two columns,
            and ``<value> low`` and ``<value> high`` where there are intervals.
        cost: a column of costs.
        value: a metric.
        heading: the title.
        bars: what the intervals are, in words; by default, over queries.
        width: in inches.

    Returns:
        The figure. What has no room for its label is counted in the small print.

    Raises:
        DataError: nothing to draw, a mix of protocols, or costs measured on different devices.
    """
    name = f"a picture of {value} against {cost}"
    require(summary, ("method", cost, value), name)
    require_one_device(summary, cost, name)
    summary = summary[np.isfinite(numbers(summary, cost)) & np.isfinite(numbers(summary, value))]
    if summary.empty:
        raise DataError(
            f"{name} needs runs that have both, and there is none",
            "runs measure their cost in the test: train or test again with this version",
        )
    x, y = numbers(summary, cost), numbers(summary, value)
    best = front(x, y, more_is_better=more_is_better(value))
    methods = [shown(method) for method in summary["method"]]
    one_method = len(set(methods)) == 1
    labels, common = named_with_common(summary, without=() if one_method else ("method",))
    heading = heading or as_heading(f"{in_short(value)} against {title(cost)}")
    better = "higher" if more_is_better(value) else "lower"
    more = f"line: settings that no other beats in both ({better} and further left is better)"
    if common:
        more += f"; {common} where nothing else is said"
    note = small_print(summary, value, bars=bars or f"bars: {over_queries(summary)}", more=more)
    narrow = width < NARROW_INCHES
    with style():
        figure = new_figure(width, 0.5 * width + (1.9 if narrow else 0.7))
        axes = figure.subplots()
        _points(axes, summary, cost, value, methods)
        steps = _front_line(axes, x[best], y[best])
        axes.set_xlabel(f"{title(cost)}{_device(summary, cost)}")
        axes.set_ylabel(title(value))
        axes.margins(0.09)
        axes.grid(visible=True)
        if narrow:
            axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, columnspacing=1.0, handletextpad=0.4)
        else:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=2.4)
        # With as many words as there may be: what is counted below must not need another line.
        headline(figure, heading, note.removesuffix(".") + f"; no room for {len(labels)} labels.")
        points, reach = np.stack([x, y], axis=1), np.nan_to_num(interval(summary, value))
        bottoms, tops = points - np.stack([0 * x, reach[0]], axis=1), points + np.stack([0 * x, reach[1]], axis=1)
        obstacles = [points, *(along(np.stack(ends)) for ends in zip(bottoms, tops, strict=True)), along(steps)]
        order = [*best, *(i for i in np.lexsort((-y, x)) if i not in set(best))]
        left_out = place_labels(
            axes,
            points[order],
            # The legend names the method; a label that would be empty says it as well.
            [labels[i] or ("" if one_method else methods[i]) for i in order],
            obstacles=np.concatenate(obstacles),
        )
        count = f"{len(left_out)} label{'s' if len(left_out) > 1 else ''}"
        headline(figure, heading, note.removesuffix(".") + f"; no room for {count}." if left_out else note)
    return figure


def require_one_device(summary: pd.DataFrame, cost: str, figure: str) -> None:
    """
    Raises:
        DataError: a time or memory was measured on several kinds of devices.
    """
    column = "memory_kind" if cost == "memory_mb" else "device"
    if cost not in _MEASURED or column not in summary.columns:
        return
    found = sorted({shown(value) for value in summary.loc[np.isfinite(numbers(summary, cost)), column]})
    if len(found) > 1:
        raise DataError(
            f"{figure}: was measured in different ways, which cannot be compared: {', '.join(found)}",
            f"choose one before, e.g. runs[runs['{column}'] == {found[0]!r}], or draw gmacs",
        )


def _device(summary: pd.DataFrame, cost: str) -> str:
    column = "memory_kind" if cost == "memory_mb" else "device"
    return f", {shown(summary[column].iloc[0])}" if cost in _MEASURED and column in summary.columns else ""


def _points(axes: Axes, summary: pd.DataFrame, cost: str, value: str, methods: list[str]) -> None:
    x, y, reach = numbers(summary, cost), numbers(summary, value), interval(summary, value)
    for method, look in looks(methods).items():
        of = np.array([name == method for name in methods])
        interval_bars(axes, x[of], y[of], reach[:, of], look.colour)
        axes.plot(
            x[of],
            y[of],
            look.marker,
            color=look.colour,
            markeredgecolor="white",
            markeredgewidth=0.0 if look.marker in "PX" else 0.5,  # thin marks would vanish in it
            label=method,
            zorder=4,
        )


def interval_bars(axes: Axes, x: np.ndarray, y: np.ndarray, reach: np.ndarray, colour: str) -> None:
    """Thin upright bars over points ``x``, ``y`` ``[N]``; ``reach`` ``[2, N]`` below and above, NaN: not known."""
    known = np.isfinite(reach).all(axis=0)
    if known.any():
        axes.errorbar(
            x[known],
            y[known],
            reach[:, known],
            fmt="none",
            ecolor=colour,
            elinewidth=0.8,
            capsize=2,
            alpha=0.75,
        )


def _front_line(axes: Axes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Steps: from one setting of the front on, its value is the best up to the cost of the next."""
    corners = [(float(x[0]), float(y[0]))]
    for before, here in zip(range(len(x) - 1), range(1, len(x)), strict=True):
        corners += [(float(x[here]), float(y[before])), (float(x[here]), float(y[here]))]
    steps = np.array(corners)
    axes.plot(steps[:, 0], steps[:, 1], color=INK, linewidth=1.0, zorder=2, label="front", gid="front")
    return steps
