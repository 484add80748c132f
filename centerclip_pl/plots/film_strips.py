"""A video as film strips: the frames of each segment, and below each frame what is kept of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from centerclip_pl.plots.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

_FRAMES_A_LINE = 12
_INCHES = 1.35  # side of a frame
_EDGE = "#ffd400"


def film_strips(frames: Tensor, kept: Tensor, title: str) -> Figure:
    """Draws each segment's frames, and below each frame what is kept of it.

    Kept patches are bright and outlined, the others grey and dark. Segments stand side by side, in as many lines as
    they need.

    Args:
        frames: uint8 ``[T, 3, H, W]``.
        kept: bool ``[S, D, grid, grid]``, with S * D = T.
        title: above the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    segments, each = kept.shape[:2]
    a_line = min(segments, max(1, _FRAMES_A_LINE // each))
    lines = math.ceil(segments / a_line)
    width, height = max(each * _INCHES * a_line + 0.7, 6.0), lines * (2 * _INCHES + 0.35) + 0.6
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.09, wspace=0.0))
    axes = figure.subplots(lines, a_line, squeeze=False)
    pictures = frames.permute(0, 2, 3, 1).unflatten(0, (segments, each)).numpy()  # (T, 3, H, W) -> (S, D, H, W, 3)
    for s, ax in enumerate(axes.flat):
        if s >= segments:
            ax.axis("off")
            continue
        _draw_segment(ax, pictures[s], kept[s].numpy())
        first, last = s * each + 1, (s + 1) * each
        covers = "" if each == 1 else f": frames {first} to {last}"
        ax.set_title(f"segment {s + 1}{covers}", fontsize=9, color=INK, pad=4)
        if s % a_line:
            ax.set_yticks([])
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _draw_segment(ax: Axes, pictures: np.ndarray, kept: np.ndarray) -> None:
    """A segment's frames ``[D, H, W, 3]`` in a row, below them what ``kept [D, grid, grid]`` says of each."""
    from matplotlib.collections import LineCollection

    each, height, side, _ = pictures.shape
    grid = kept.shape[1]
    patch, gap = side // grid, max(2, side // 32)
    canvas = np.full((2 * height + gap, each * (side + gap) - gap, 3), 255, dtype=np.uint8)
    bright = np.zeros((each, height, side, 1), dtype=bool)
    bright[:, : grid * patch, : grid * patch, 0] = kept.repeat(patch, axis=1).repeat(patch, axis=2)
    dark = pictures.mean(axis=-1, keepdims=True) * 0.3 + 22
    shown = np.where(bright, pictures, dark).astype(np.uint8)
    for d in range(each):
        left, top = d * (side + gap), height + gap
        canvas[:height, left : left + side] = pictures[d]
        canvas[top:, left : left + side] = shown[d]
        ax.add_collection(LineCollection(_outline(kept[d], left - 0.5, top - 0.5, patch), colors=_EDGE, linewidths=0.8))
    ax.imshow(canvas, interpolation="nearest" if side < 150 else "antialiased")
    ax.set_xticks([])
    ax.set_yticks([height / 2, height * 1.5 + gap], ["video", "kept"], rotation=90, va="center", fontsize=9, color=INK)
    ax.tick_params(length=0)
    ax.set_frame_on(False)


def _outline(kept: np.ndarray, left: float, top: float, patch: int) -> list[list[tuple[float, float]]]:
    """The borders between kept and dropped patches of a ``[grid, grid]`` mask, as lines ``[(x, y), (x, y)]``."""
    padded = np.pad(kept, 1)
    lines = []
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):  # upright, between column - 1 and column
        x, y = left + column * patch, top + (row - 1) * patch
        lines.append([(x, y), (x, y + patch)])
    for row, column in np.argwhere(padded[1:] != padded[:-1]):  # level, between row - 1 and row
        x, y = left + (column - 1) * patch, top + row * patch
        lines.append([(x, y), (x + patch, y)])
    return lines
