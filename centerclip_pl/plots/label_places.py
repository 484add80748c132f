"""Labels beside points that cover neither each other nor what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from centerclip_pl.plots.style import FAINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Angles in the order in which a reader expects a label, distances in points: near ones first.
_ANGLES = np.deg2rad([20, 160, -20, -160, 90, -90, 50, 130, -50, -130])
_DISTANCES = (6.0, 11.0, 18.0, 28.0, 42.0)
_LEADER = 14.0
"""Points of distance from which on a thin line leads to the point."""
_AIR = 2.0
"""Pixels around a label that stay free."""


def along(corners: np.ndarray, steps: int = 100) -> np.ndarray:
    """Points along a line with corners [N, 2], close enough to each other that no label fits between."""
    if len(corners) < 2:
        return corners
    part = np.linspace(0, 1, steps)[:, None]
    return np.concatenate([a + part * (b - a) for a, b in pairwise(corners)])


def place_labels(
    axes: Axes,
    points: np.ndarray,
    labels: Sequence[str],
    *,
    obstacles: np.ndarray,
    size: float = 6.5,
) -> list[str]:
    """Writes each label at the first free place near its point; the figure's layout is final afterwards.

    Places are tried from near to far, with measured boxes; so, unlike with forces, no two labels overlap. A label that
    is nearer to another point than to its own is not written there without a line to its own.

    Args:
        axes: with all else drawn.
        points: where they belong, in data coordinates, [N, 2]; those that matter most first.
        labels: N texts; empty ones are not written.
        obstacles: what labels must not cover, [M, 2] in data coordinates: marks, and points along lines and bars.
        size: of the letters, in points.

    Returns:
        The labels for which there was no room, which are not written.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    figure.set_layout_engine("none")  # type: ignore[union-attr]  # boxes are measured: nothing may move any more
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    inside = axes.get_window_extent(renderer)
    blocked = axes.transData.transform(obstacles) if len(obstacles) else np.empty((0, 2))
    marks = axes.transData.transform(points) if len(points) else np.empty((0, 2))
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent(renderer)]
    left_out = []
    for place, (point, label) in enumerate(zip(points, labels, strict=True)):
        if not label:
            continue
        text = axes.annotate(
            label,
            (float(point[0]), float(point[1])),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=size,
            zorder=6,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )
        text.set_gid("label")
        others = np.delete(marks, place, axis=0)
        if not _settle(text, inside, blocked, taken, marks[place], others, renderer):
            text.remove()
            left_out.append(label)
    return left_out


def _settle(
    text: Annotation,
    inside: Bbox,
    blocked: np.ndarray,
    taken: list[Bbox],
    own: np.ndarray,
    others: np.ndarray,
    renderer: object,
) -> bool:
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    for distance in _DISTANCES:
        for angle in _ANGLES:
            x, y = distance * np.cos(angle), distance * np.sin(angle)
            text.set_position((x, y))
            text.set_horizontalalignment("left" if x > 1 else "right" if x < -1 else "center")
            text.set_verticalalignment("bottom" if y > distance / 2 else "top" if y < -distance / 2 else "center")
            text.update_positions(renderer)  # type: ignore[arg-type]
            box = Text.get_window_extent(text, renderer)  # type: ignore[arg-type]  # without the leader
            box = Bbox.from_extents(box.x0 - _AIR, box.y0 - _AIR, box.x1 + _AIR, box.y1 + _AIR)
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if not within or any(box.overlaps(other) for other in taken):
                continue
            covered = (
                (blocked[:, 0] > box.x0)
                & (blocked[:, 0] < box.x1)
                & (blocked[:, 1] > box.y0)
                & (blocked[:, 1] < box.y1)
            )
            if covered.any():
                continue
            if distance < _LEADER and (_away(box, others) < _away(box, own[None])[0]).any():
                continue
            if distance >= _LEADER:  # its line and the other labels do not cross
                middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
                line = along(np.stack([own, middle]), 50)
                ticks = [Bbox.from_extents(x, y, x, y) for x, y in line[_away(box, line) > 0]]
                if any(tick.overlaps(other) for tick in ticks for other in taken):
                    continue
                taken += ticks
            if distance < _LEADER and text.arrow_patch is not None:
                text.arrow_patch.set_visible(False)
            taken.append(box)
            return True
    return False


def _away(box: Bbox, points: np.ndarray) -> np.ndarray:
    """How far each of the points ``[N, 2]`` is from the box."""
    below, above = np.array([box.x0, box.y0]) - points, points - np.array([box.x1, box.y1])
    distance: np.ndarray = np.linalg.norm(np.maximum(np.maximum(below, above), 0), axis=1)
    return distance
