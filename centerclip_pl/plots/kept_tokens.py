"""Figures about the tokens that are kept: how near they are to all tokens, in which frames, at which places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from centerclip_pl.errors import DataError
from centerclip_pl.plots.style import (
    COLOUR_MAP,
    FAINT,
    INK,
    PAGE_INCHES,
    Look,
    headline,
    looks,
    new_figure,
    readable_on,
    style,
)
from centerclip_pl.statistics.means import mean_intervals
from centerclip_pl.statistics.token_choices import choices_table, frame_shares, place_ratios
from centerclip_pl.training.token_choices import TokenChoices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

# The same looks as in the figures about methods.
_METHODS = {"k-medoids": "kmedoids", "spectral clustering": "spectral", "sparse sampling": "sparse"}
_UNIT = "mean distance of two tokens of a segment = 1"
_MOST_NUMBERS = 10  # places along a side, above which numbers in the cells would be too small to read
_SAMPLES = {"mean": "of a segment's tokens on average", "farthest": "of its farthest token"}


def coverage_points(choices: TokenChoices, *, confidence: float = 0.95, width: float = PAGE_INCHES) -> Figure:
    """Distance of the tokens to the nearest one kept: the mean one and the farthest, a point and an interval a way.

    Args:
        choices: what :func:`centerclip_pl.training.token_choices.compare_choices` found.
        confidence: of the intervals over videos.
        width: in inches.
    """
    ways = choices.choices
    with style():
        figure = new_figure(width, 1.5 + 0.28 * len(ways))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (value, label) in zip(panels, _SAMPLES.items(), strict=True):
            table = choices_table(choices, value, confidence=confidence).set_index("choice")
            points = table.loc[ways, ["mean", "low", "high"]].to_numpy()
            for place, look in enumerate(_looks(ways).values()):
                _point(axes, points[place], place, look)
            low, high = np.quantile(choices.draws[value], [(1 - confidence) / 2, (1 + confidence) / 2])
            axes.axvspan(low, high, color="#bbbbbb", alpha=0.5, linewidth=0, gid="draws")
            axes.set_yticks(range(len(ways)), ways)
            axes.set_ylim(len(ways) - 0.4, -0.6)
            axes.set_xlim(left=0)
            axes.grid(axis="x")
            axes.set_xlabel(label)
        panels[1].tick_params(left=False)
        headline(
            figure,
            "How near the kept tokens are to all tokens",
            f"Distance to the nearest token kept; {_UNIT}. {_note(choices, confidence, draws=True)}",
        )
    return figure


def coverage_curves(choices: TokenChoices, *, confidence: float = 0.95, width: float = PAGE_INCHES) -> Figure:
    """The share of the tokens that have a kept one within a distance, against that distance.

    Args:
        choices: see :func:`coverage_points`.
        confidence: of the bands over videos.
        width: in inches.
    """
    with style():
        figure = new_figure(width, 3.0)
        axes = figure.subplots()
        for name, look in _looks(choices.choices).items():
            rows = choices.within[choices.within["choice"] == name]
            wide = rows.pivot(index="video", columns="radius", values="share")
            radii = wide.columns.to_numpy(dtype=float)
            mean, low, high = mean_intervals(100 * wide.to_numpy(), confidence=confidence, resamples=2000)
            if np.isfinite(low).all():
                axes.fill_between(radii, low, high, color=look.colour, alpha=0.2, linewidth=0)
            every = max(1, len(radii) // 10)
            axes.plot(
                radii, mean, color=look.colour, linestyle=look.line, marker=look.marker, markevery=every, label=name
            )
        axes.axhline(100 * choices.kept / choices.tokens, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            f"the tokens kept themselves: {choices.kept} of {choices.tokens}",
            (radii[-1], 100 * choices.kept / choices.tokens),
            xytext=(0, -9),
            textcoords="offset points",
            ha="right",
            fontsize=6.5,
            color=FAINT,
        )
        axes.set_xlim(radii[0], radii[-1])
        axes.set_ylim(0, 102)
        axes.set_xlabel(f"distance ({_UNIT})")
        axes.set_ylabel("tokens with a kept one within it (%)")
        axes.grid()
        axes.legend(loc="upper right", bbox_to_anchor=(1, 0.82))
        headline(figure, "What the kept tokens cover", _note(choices, confidence, bands=True))
    return figure


def kept_over_segment(choices: TokenChoices, *, confidence: float = 0.95, width: float = PAGE_INCHES / 2) -> Figure:
    """Which share of a segment's kept tokens lies in each of its frames, against an even spread.

    Args:
        choices: see :func:`coverage_points`.
        confidence: of the intervals over videos.
        width: in inches.

    Raises:
        DataError: a segment has one frame alone.
    """
    ways = list(choices.frames)
    each = choices.frames[choices.own].shape[2]
    if each == 1:
        raise DataError(
            "a segment of this model is one frame, so there is nothing to spread over",
            "take a model with fewer segments than frames",
        )
    with style():
        figure = new_figure(width, 2.8)
        axes = figure.subplots()
        for number, (name, look) in enumerate(_looks(ways).items()):
            mean, low, high = mean_intervals(100 * frame_shares(choices, name), confidence=confidence)
            at = np.arange(1, each + 1) + 0.12 * (number - (len(ways) - 1) / 2)
            bars = None if np.isnan(low).any() else np.stack([mean - low, high - mean])
            axes.errorbar(
                at,
                mean,
                bars,
                color=look.colour,
                marker=look.marker,
                linestyle=look.line,
                linewidth=1,
                capsize=2.5,
                label=name,
            )
        axes.axhline(100 / each, color=FAINT, linewidth=0.9, linestyle=(0, (4, 2)), label="spread evenly")
        axes.set_xticks(range(1, each + 1))
        axes.set_xlim(0.5, each + 0.5)
        axes.set_ylim(0, 1.5 * axes.get_ylim()[1])
        axes.set_xlabel("frame of the segment")
        axes.set_ylabel("share of the kept tokens (%)")
        axes.legend(loc="upper right")
        headline(figure, "Kept tokens over the frames", _note(choices, confidence, bars=True))
    return figure


def place_map(choices: TokenChoices, way: str | None = None, *, width: float = PAGE_INCHES / 2) -> Figure:
    """How often each place of the picture is kept, in units of how often it would be if all places were alike.

    Args:
        choices: see :func:`coverage_points`.
        way: one of ``choices.frames``; None: the model's own.
        width: in inches.
    """
    way = choices.own if way is None else way
    ratio = place_ratios(choices, way).mean(axis=0)
    side = round(len(ratio) ** 0.5)
    cells = ratio.reshape(side, side)
    with style():
        figure = new_figure(width, 0.86 * width + 0.35)
        axes = figure.subplots()
        image = axes.imshow(cells, cmap=COLOUR_MAP, vmin=0, vmax=max(2.0, float(cells.max())))
        if side <= _MOST_NUMBERS:
            for (row, column), value in np.ndenumerate(cells):
                colour = readable_on(image.cmap(image.norm(value)))
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=5.5, color=colour)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_xlabel(f"{side} × {side} places of a frame")
        bar = figure.colorbar(image, ax=axes, label="kept, times the even share", shrink=0.9)
        bar.outline.set_linewidth(0.5)
        bar.ax.axhline(1, color="white", linewidth=2.5)
        bar.ax.axhline(1, color=INK, linewidth=1)
        headline(figure, f"Where {way} keeps tokens", f"{_count(choices)}, all frames; 1.0 = all places alike")
    return figure


def kept_a_frame(kept: Tensor, name: str, *, width: float = PAGE_INCHES) -> Figure:
    """How many tokens of each frame of one video are kept, segment by segment.

    Args:
        kept: bool ``[S, D, grid, grid]``, as :func:`centerclip_pl.training.seen_tokens.kept_tokens` gives it.
        name: of the video.
        width: in inches.
    """
    counts = kept.flatten(2).sum(dim=2).numpy()  # [S, D]
    segments, each = counts.shape
    frames = segments * each
    with style():
        figure = new_figure(width, 2.2)
        axes = figure.subplots()
        at = np.arange(1, frames + 1)
        bars = axes.bar(at, counts.ravel(), width=0.7, color=looks(["kmedoids"])["kmedoids"].colour)
        if frames <= 2 * _MOST_NUMBERS:
            for label in axes.bar_label(bars, fontsize=6.5, color=INK, padding=2):
                label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # the dashed line may be there
        even = counts.sum(axis=1) / each
        for s in range(segments):
            left, right = s * each + 0.5, (s + 1) * each + 0.5
            axes.plot([left + 0.08, right - 0.08], [even[s]] * 2, color=INK, linewidth=1, linestyle=(0, (3, 1.5)))
            if s:
                axes.axvline(left, color="#999999", linewidth=0.8)
            axes.text((left + right) / 2, 1.01, _segment(s, segments), transform=axes.get_xaxis_transform(), **_SMALL)
        axes.set_xlim(0.5, frames + 0.5)
        axes.set_ylim(0, 1.15 * counts.max())
        axes.set_xticks(at if frames <= 2 * _MOST_NUMBERS else at[:: max(1, each)])
        axes.set_xlabel("frame that the model sees")
        axes.set_ylabel("patch tokens kept")
        note = f"of {kept[0, 0].numel()} patch tokens a frame; dashed: spread evenly over the frames of the segment\n"
        headline(figure, f"Tokens kept over time: {name}", note)
    return figure


_SMALL: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": FAINT}


def _segment(number: int, segments: int) -> str:
    return f"segment {number + 1}" if segments <= 8 else str(number + 1)


def _point(axes: Axes, value: np.ndarray, place: int, look: Look) -> None:
    mean, low, high = value
    bars = None if np.isnan(low) else [[mean - low], [high - mean]]
    axes.errorbar(mean, place, xerr=bars, color=look.colour, marker=look.marker, markersize=6, capsize=3, linestyle="")


def _looks(ways: Sequence[str]) -> dict[str, Look]:
    known = looks([_METHODS.get(name, name) for name in ways])
    return {name: known[_METHODS.get(name, name)] for name in ways}


def _count(choices: TokenChoices) -> str:
    videos = choices.coverage["video"].nunique()
    return f"{videos} video{'s' if videos > 1 else ''}, {choices.kept} of {choices.tokens} tokens of a segment kept"


def _note(
    choices: TokenChoices, confidence: float, *, draws: bool = False, bands: bool = False, bars: bool = False
) -> str:
    lines = [_count(choices)]
    one = choices.coverage["video"].nunique() == 1
    if bars or bands or draws:
        what = "bands" if bands else "bars"
        lines.append("one video: no intervals" if one else f"{what}: {confidence:.0%} interval over videos (bootstrap)")
    if draws:
        lines[-1] += f"; grey: where {confidence:.0%} of {len(choices.draws)} random choices for all videos lie"
    return "; ".join(lines) + "."
