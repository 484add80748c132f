"""How figures look, and how they are written: the same for notebooks, reports and papers.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers tell apart; marks and line
styles differ as well, so that a print in grey can be read. Maps of colours are perceptually uniform.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from centerclip_pl.errors import ConfigError
from centerclip_pl.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.4
"""Width of a column of a two-column paper."""
PAGE_INCHES = 7.0
"""Width of a page of such a paper."""
NARROW_INCHES = 5.0
"""Below this width legends stand above the axes, not beside them."""
FORMATS = ("svg", "pdf", "png")
INK = "#222222"
FAINT = "#6b6b6b"
GRID = "#dddddd"
COLOUR_MAP = "cividis"
"""For heat maps: perceptually uniform, the same to colour-blind readers, rising in lightness."""
_DPI = 200

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same figure on every machine
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, embedded: publishers refuse Type 3
    "ps.fonttype": 42,
    "svg.fonttype": "path",  # looks alike wherever it is opened, whatever fonts are there
    "svg.hashsalt": "centerclip",  # without random names the same figures give the same file
    "text.parse_math": False,  # names of runs may hold a dollar sign
}


class Look(NamedTuple):
    """How the points and lines of one thing are drawn."""

    colour: str
    marker: str
    line: Any
    """A line style of matplotlib."""


_LOOKS = (
    Look("#0072b2", "o", "-"),
    Look("#d55e00", "s", (0, (5, 1.5))),
    Look("#009e73", "^", (0, (1, 1.2))),
    Look("#cc79a7", "D", (0, (5, 1.5, 1, 1.5))),
    Look("#e69f00", "v", (0, (3, 1, 1, 1, 1, 1))),
    Look("#56b4e9", "P", (0, (8, 2))),
    Look("#000000", "X", (0, (2, 2))),
    Look("#7f7f7f", "h", (0, (6, 1, 1, 1, 1, 1))),
)
_KNOWN = ("kmedoids", "spectral", "pooling", "sparse", "temporal_shift", "token_shift", "baseline")


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each name: methods of this package have the same one in every figure.

    Args:
        names: in the order of the legend; repeated ones count once.
    """
    names = list(dict.fromkeys(names))
    known = {name: _LOOKS[_KNOWN.index(name)] for name in names if name in _KNOWN}
    free = [look for look in _LOOKS if look not in known.values()] or list(_LOOKS)
    found: dict[str, Look] = {}
    for name in names:
        if name in known:
            found[name] = known[name]
        else:
            taken = len(found) - sum(other in known for other in found)
            # Once round, the colours come with other marks, so that no two of the first 64 are alike.
            look, turn = free[taken % len(free)], taken // len(free)
            found[name] = look._replace(marker=_LOOKS[(_LOOKS.index(look) + turn) % len(_LOOKS)].marker)
    return found


def luminance(colour: object) -> float:
    """Relative luminance of a colour of matplotlib, in [0, 1] (WCAG 2.2, "relative luminance")."""
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]  # type: ignore[arg-type]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: object, other: object) -> float:
    """Contrast ratio of two colours, from 1 to 21 (WCAG 2.2); texts need 4.5."""
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def readable_on(colour: object) -> str:
    """Black or white, whichever stands out more."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, colour))


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings for what is drawn within; nothing is changed outside."""
    from matplotlib import rc_context

    with rc_context(dict(_RC)):
        yield


def new_figure(width: float = PAGE_INCHES, height: float = 3.2) -> Figure:
    """An empty figure that no window or list of pyplot knows; call it within :func:`style`.

    Args:
        width: in inches.
        height: in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # measures texts
    return figure


def headline(figure: Figure, title: str, note: str = "") -> None:
    """A title above all of a figure, and below it, small, what the figures rest on; both broken to its width.

    Args:
        figure: made by :func:`new_figure`.
        title: some words.
        note: sentences.
    """
    figure.suptitle(_broken(figure, title, 9.5, "bold"), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    if note:
        figure.supxlabel(_broken(figure, note, 6.5), x=0.01, ha="left", fontsize=6.5, color=FAINT, linespacing=1.35)


def legend_above(axes: Axes, figure: Figure) -> None:
    """A legend between title and axes that begins at the figure's left edge: one line, on narrow figures a list."""
    from matplotlib.transforms import blended_transform_factory

    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        bbox_transform=blended_transform_factory(figure.transFigure, axes.transAxes),
        ncols=1 if figure.get_figwidth() < NARROW_INCHES else 4,
        borderaxespad=0.3,
    )


def _broken(figure: Figure, text: str, size: float, weight: str = "normal") -> str:
    """The text with line ends, so that no line is wider than the figure."""
    from matplotlib.font_manager import FontProperties

    font, room = FontProperties(family="DejaVu Sans", weight=weight, size=size), 0.98 * figure.bbox.width
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    space = _width(renderer, "n n", font) - _width(renderer, "nn", font)
    lines = []
    for paragraph in text.split("\n"):
        line: list[str] = []
        width = 0.0
        for word in paragraph.split(" "):  # other spaces do not break
            more = _width(renderer, word, font) + (space if line else 0)
            if line and width + more > room:
                lines.append(" ".join(line))
                line, width, more = [], 0.0, more - space
            line.append(word)
            width += more
        lines.append(" ".join(line))
    return "\n".join(lines)


def _width(renderer: Any, text: str, font: Any) -> float:
    """In pixels."""
    width, _, _ = renderer.get_text_width_height_descent(text, font, False)
    return float(width)


def save(figure: Figure, path: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Writes a figure, each file whole or not at all.

    Args:
        figure: what to write.
        path: without an ending; its folder is made. ``figures/map`` gives ``figures/map.svg`` and so on.
        formats: of ``"svg"`` (texts as outlines), ``"pdf"`` (fonts embedded) and ``"png"`` (200 dots an inch).

    Returns:
        The files, in the order of ``formats``. The same figure gives the same bytes.

    Raises:
        ConfigError: an unknown format, or a place that cannot be written.
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        raise ConfigError(
            f"formats={list(formats)}: {unknown[0] if unknown else 'nothing'} is no form of a figure",
            f"use some of {', '.join(FORMATS)}",
        )
    path = Path(path)
    files = [path.with_name(f"{path.name}.{form}") for form in formats]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for form, file in zip(formats, files, strict=True):
            with replacing(file) as part:
                part.write_bytes(_rendered(figure, form))
    except OSError as error:
        raise ConfigError(
            f"{error.filename or path}: the figure cannot be written: {error.strerror}",
            "name a folder that can be written",
        ) from error
    return files


def svg(figure: Figure, *, text: str = "path") -> str:
    """The figure as an ``<svg>`` element, to be put into a page.

    Args:
        figure: what to draw.
        text: ``"path"``: texts are outlines, alike everywhere. ``"none"``: texts stay texts, which can be searched and
            read aloud, in whatever font is there.
    """
    whole = _rendered(figure, "svg", {"svg.fonttype": text}).decode("utf-8")
    return whole[whole.index("<svg") :]


def _rendered(figure: Figure, form: str, settings: Any = None) -> bytes:
    from matplotlib import rc_context

    stream = io.BytesIO()
    # Dates would make every file another one.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[form]
    with style(), rc_context(settings or {}):
        figure.savefig(stream, format=form, dpi=_DPI, metadata=metadata)
    return stream.getvalue()
