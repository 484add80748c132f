"""Labels belong to the point that they are nearest to, or a line leads to it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from centerclip_pl.plots.label_places import place_labels
from centerclip_pl.plots.style import new_figure, style


@pytest.mark.parametrize("gap", [0.004, 0.01, 0.02, 0.04])
def test_a_label_without_a_line_is_nearest_to_its_own_point(gap: float) -> None:
    x = 0.5 + gap * np.arange(4)
    points = np.stack([x, np.full(4, 0.5)], axis=1)
    labels = ["one", "two", "three", "four"]
    with style():
        figure = new_figure()
        axes = figure.subplots()
        axes.plot(*points.T, "o")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        left_out = place_labels(axes, points, labels, obstacles=points)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    marks = axes.transData.transform(points)
    for text in axes.texts:
        x0, y0, x1, y1 = Text.get_window_extent(text, renderer).extents
        nearest = np.stack([np.clip(marks[:, 0], x0, x1), np.clip(marks[:, 1], y0, y1)], axis=1)
        away = np.linalg.norm(nearest - marks, axis=1)
        arrow = text.arrow_patch  # type: ignore[attr-defined]
        assert arrow.get_visible() or away[labels.index(text.get_text())] <= away.min() + 2
    assert len(axes.texts) + len(left_out) == 4
    assert not left_out
