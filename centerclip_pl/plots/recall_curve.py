"""Which share of the queries finds its own video among the first k, for every k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from centerclip_pl.errors import DataError
from centerclip_pl.plots.style import GRID, headline, looks, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {"t2v": "text to video", "v2t": "video to text"}
_MARKED = (1, 5, 10)


def recall_curve(
    ranks: Mapping[str, Sequence[pd.DataFrame]], *, most: int = 100, title: str = "R@k for every k", note: str = ""
) -> Figure:
    """Draws R@k over k, one panel a direction; every seed thin, their mean thick.

    Args:
        ranks: by the name of the setting the ranks of its runs (``read_run_ranks``), one frame a seed.
        most: the largest k; fewer where there are fewer candidates that differ.
        title: above the figure.
        note: below it.

    Returns:
        A figure with one panel for each direction that the ranks have.

    Raises:
        DataError: there are no ranks.
    """
    directions = [
        way for way in _WORDS if any((frame["direction"] == way).any() for fs in ranks.values() for frame in fs)
    ]
    if not directions:
        raise DataError(
            "there are no ranks to draw R@k from", "test the runs again: `centerclip eval --checkpoint=...`"
        )
    with style():
        figure = new_figure(height=3.4)
        panels = figure.subplots(1, len(directions), sharey=True, squeeze=False)[0]
        for panel, way in zip(panels, directions, strict=True):
            _draw(panel, {name: [_of(frame, way) for frame in frames] for name, frames in ranks.items()}, most)
            panel.set_title(_WORDS[way])
            panel.set_xlabel("k")
        panels[0].set_ylabel("R@k (%)")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=min(3, len(names)), handlelength=3)
        headline(figure, title, note)
    return figure


def recalls(ranks: NDArray[np.float64], ks: NDArray[np.int64]) -> NDArray[np.float64]:
    """R@k in percent.

    Args:
        ranks: float64 ``[Q]``, from 1.
        ks: int64 ``[K]``.

    Returns:
        float64 ``[K]``
    """
    return 100 * np.searchsorted(np.sort(ranks), ks, side="right") / len(ranks)


def _of(frame: pd.DataFrame, way: str) -> NDArray[np.float64]:
    return frame.loc[frame["direction"] == way, "rank"].to_numpy(dtype=np.float64)


def _draw(panel: Axes, ranks: Mapping[str, Sequence[NDArray[np.float64]]], most: int) -> None:
    known = [rank for seeds in ranks.values() for rank in seeds if len(rank)]
    last = max(max(_MARKED), min(most, int(max(rank.max() for rank in known))))
    ks = np.arange(1, last + 1)
    look = looks(list(ranks))
    for name, seeds in ranks.items():
        curves = np.stack([recalls(rank, ks) for rank in seeds if len(rank)])
        colour, line = look[name].colour, look[name].line
        if len(curves) > 1:
            panel.step(ks, curves.T, where="post", color=colour, linewidth=0.5, alpha=0.5)
        panel.step(ks, curves.mean(axis=0), where="post", color=colour, linestyle=line, linewidth=1.6, label=name)
    panel.set_xscale("log")
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= last]
    panel.set_xticks(ticks, [str(k) for k in ticks])
    panel.minorticks_off()
    panel.set_xlim(1, last)
    panel.set_ylim(top=100.5)
    panel.grid(color=GRID)
