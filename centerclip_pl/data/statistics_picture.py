"""A picture of a dataset: durations, lengths of captions, captions a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from centerclip_pl.data.statistics import SplitSamples, Statistics
from centerclip_pl.data.wording import counted
from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
_BINS = 40
_SAME = 0.002  # seconds; containers round times
_INK = "#222222"
# Told apart by darkness and by pattern, so that a print in grey can be read.
_LINES: dict[str, tuple[str, Literal["-", "--", ":", "-."], float]] = {
    "train": ("#111111", "-", 1.6),
    "val": ("#8a8a8a", "--", 1.6),
    "test": ("#d1495b", ":", 2.2),
}


def require_format(file: str | Path) -> None:
    """
    Raises:
        ConfigError: the name does not end in .png or .svg.
    """
    if Path(file).suffix.lower() not in FORMATS:
        raise ConfigError(f"picture={file}: the ending says in which form", f"use one of {', '.join(FORMATS)}")


def draw_statistics(statistics: Statistics, file: Path, form: str) -> None:
    """Draw three distributions beside each other, one line a split.

    Args:
        statistics: of the dataset.
        file: where to write, whatever it is called.
        form: ``"png"`` or ``"svg"``.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    durations, lengths, captions = figure.subplots(1, 3)
    splits = statistics.splits
    _distributions(durations, {split: samples.durations for split, samples in splits.items()}, whole=False)
    _label(durations, "How long the videos are", "duration (s)", "share of the videos (%)")
    _lengths(lengths, statistics)
    _distributions(captions, {split: samples.captions_a_video for split, samples in splits.items()}, whole=True)
    _label(captions, "Captions of a video", "captions a video", "share of the videos (%)")
    handles = [Line2D([], [], color=c, linestyle=d, linewidth=w) for c, d, w in map(_line, splits)]
    figure.legend(handles, list(splits), loc="outside lower center", ncols=len(splits), frameon=False, handlelength=3)
    figure.suptitle(f"{statistics.dataset}: {_sizes(splits)}", fontsize=12, color=_INK)
    # Without a date and random names the same figures give the same file.
    metadata = {"Date": None} if form == "svg" else None
    with rc_context({"svg.hashsalt": "centerclip"}):
        figure.savefig(file, dpi=130, format=form, facecolor="white", metadata=metadata)


def _sizes(splits: dict[str, SplitSamples]) -> str:
    parts = []
    for split, samples in splits.items():
        lacking = samples.missing + samples.broken
        without = f" ({lacking:,} missing or broken)" if lacking else ""
        videos, captions = counted(samples.videos, "video"), counted(len(samples.words), "caption")
        parts.append(f"{split} {videos}{without}, {captions}")
    return "; ".join(parts)


def _lengths(ax: Axes, statistics: Statistics) -> None:
    splits = statistics.splits
    tokens = {split: samples.tokens for split, samples in splits.items() if samples.tokens is not None}
    if tokens:
        _distributions(ax, tokens, whole=True)
        _label(ax, "How long the captions are", "tokens a caption, start and end included", "share of the captions (%)")
    else:
        _distributions(ax, {split: samples.words for split, samples in splits.items()}, whole=True)
        _label(ax, "How long the captions are", "words a caption (no tokenizer)", "share of the captions (%)")
    # Words are split into one token or more, and start and end take two: without tokens the line is a bound.
    limit = statistics.max_words if tokens else statistics.max_words - 2
    ax.axvline(limit + 0.5, color=_INK, linewidth=1.0, linestyle=(0, (6, 2)))
    ax.annotate(
        f"cut at max_words = {statistics.max_words}" + ("" if tokens else " tokens or before"),
        (limit + 0.5, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
    )


def _distributions(ax: Axes, values: dict[str, np.ndarray], *, whole: bool) -> None:
    """A line for each split that has values, in % of its values; ``whole``: a bin takes whole numbers."""
    values = {split: numbers for split, numbers in values.items() if len(numbers)}
    if not values:
        ax.text(0.5, 0.5, "no video can be used", transform=ax.transAxes, ha="center", va="center", color=_INK)
        return
    edges = _edges(np.concatenate(list(values.values())), whole)
    for split, numbers in values.items():
        colour, style, width = _line(split)
        share = 100 * np.histogram(numbers, edges)[0] / len(numbers)
        ax.stairs(share, edges, color=colour, linestyle=style, linewidth=width)
    if whole:
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _edges(numbers: np.ndarray, whole: bool) -> np.ndarray:
    low, high = float(numbers.min()), float(numbers.max())
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / _BINS)))
        return np.arange(low - 0.5, high + step + 0.5, step)
    if high == low:
        return np.array([low - 0.5, low + 0.5])
    bins = int(np.clip(np.sqrt(len(numbers)), 6, _BINS))
    # Durations are whole numbers of frames: bins that take different numbers of possible values look like a comb.
    gaps = np.diff(np.unique(numbers))
    gaps = gaps[gaps > _SAME]
    gap = high - low
    if len(gaps):
        usual = np.percentile(gaps, 50, method="lower")  # one of them, also where they are even in number
        gap = float(gaps[np.abs(gaps - usual) <= _SAME].mean())
    width = gap * np.ceil((high - low) / bins / gap)
    first = low - gap / 2
    return first + width * np.arange(np.floor((high - first) / width) + 2)


def _line(split: str) -> tuple[str, Literal["-", "--", ":", "-."], float]:
    """Colour, pattern and width."""
    return _LINES.get(split, (_INK, "-.", 1.6))


def _label(ax: Axes, title: str, x: str, y: str) -> None:
    ax.set_title(title, fontsize=11, color=_INK)
    ax.set_xlabel(x, color=_INK)
    ax.set_ylabel(y, color=_INK)
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
