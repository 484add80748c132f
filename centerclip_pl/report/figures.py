"""The figures of a section, each where the runs have what it takes; what is left out says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.blocks import over_blocks
from centerclip_pl.plots.heatmap import heat_map
from centerclip_pl.plots.naming import COSTS, is_given, more_is_better, title
from centerclip_pl.plots.pareto import pareto
from centerclip_pl.plots.recall_curve import recall_curve
from centerclip_pl.plots.seeds import differences, seed_spread
from centerclip_pl.plots.tables import groups, small_print
from centerclip_pl.report.against import Against
from centerclip_pl.report.page import LeftOut, Picture
from centerclip_pl.report.svg import inline_svg
from centerclip_pl.report.wording import at, probability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_MAPS = 4
_MAP_INCHES = 5.0
_GRID = ("segments", "clusters")


class Album:
    """Collects the figures that can be drawn, and the reasons for those that cannot.

    Args:
        prefix: of the ids in the page, one for each section.
        metric: what the figures are about.
    """

    def __init__(self, prefix: str, metric: str) -> None:
        self.prefix = prefix
        self.metric = metric
        self.pictures: list[Picture] = []
        self.left_out: list[LeftOut] = []

    def add(self, name: str, heading: str, draw: Callable[[], Figure], caption: str) -> None:
        """Draws a figure, or notes why it cannot be drawn.

        Args:
            name: part of its id.
            heading: stands above it.
            draw: makes it; a `DataError` means that the runs cannot give it.
            caption: stands below it, and is read out in its place.
        """
        try:
            figure = draw()
        except DataError as error:
            self.left_out.append(
                LeftOut(heading, error.problem, (error.next_step or "").removeprefix("make them with: "))
            )
            return
        caption = caption[:1].upper() + caption[1:]
        svg = inline_svg(figure, f"{self.prefix}-{name}", f"{heading}. {caption}")
        self.pictures.append(Picture(f"figure-{name}", heading, svg, caption))


@dataclass(frozen=True)
class Material:
    """What the figures of a section are drawn from.

    Args:
        runs: rows of ``read_runs`` of one protocol.
        summary: of them, by :func:`centerclip_pl.statistics.summarise`, with the index 0, 1, ...
        names: what its rows are called.
        ranks: of the settings whose R@k is drawn over all k, by their names; may be empty.
        baseline: its row in the summary.
        against: the other settings beside it.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    names: Sequence[str]
    ranks: Mapping[str, Sequence[pd.DataFrame]]
    baseline: int | None
    against: Sequence[Against]


def draw_figures(material: Material, album: Album) -> None:
    """Puts every figure of a section into the album."""
    summary = material.summary
    _add_maps(material, album)
    _add_trade_offs(summary, album)
    album.add(
        "blocks",
        "Where to cluster",
        lambda: over_blocks(summary, album.metric),
        "The same setting with tokens clustered after different blocks of the vision transformer: "
        f"{title(album.metric)} and cost. Bars are intervals over queries.",
    )
    album.add(
        "seeds",
        "Seeds",
        lambda: _seeds(material, album.metric),
        f"{title(album.metric)} of every run: a mark for each seed, their mean, and the interval over queries. How far "
        "seeds lie from each other is how far training again may move a figure.",
    )
    _add_differences(material, album)
    several = any(len(frames) > 1 for frames in material.ranks.values())
    album.add(
        "recall-curve",
        "How far down the list the right one is",
        lambda: recall_curve(material.ranks, note=small_print(summary, album.metric)),
        "R@k, the share of the queries whose own candidate is among the first k, over k."
        + (" Thin lines are seeds, thick ones their mean." if several else ""),
    )


def _add_maps(material: Material, album: Album) -> None:
    heading, metric, summary = "Segments and clusters", album.metric, material.summary
    maps = [(name, part) for name, part in groups(summary, _GRID) if len(part.dropna(subset=list(_GRID))) > 1]
    if not maps:
        album.add("map", heading, _no_map, "")
    reference = None
    if material.baseline is not None:
        reference = ("baseline", float(at(summary, material.baseline, metric)))
    for number, (name, part) in enumerate(maps[:_MOST_MAPS], start=1):
        of = f": {name}" if name else ""
        album.add(
            f"map-{number}",
            f"{heading}, accuracy{of}",
            lambda part=part: heat_map(part, metric, reference=reference, width=_MAP_INCHES),  # type: ignore[misc]
            f"{title(metric)} of every pair of segments and clusters. The best pair has a frame.",
        )
    if maps and summary["gmacs"].notna().any():  # of one method: the cost of a grid hardly depends on it
        name, part = maps[0]
        album.add(
            "map-cost",
            f"{heading}, cost{f': {name}' if name else ''}",
            lambda: heat_map(part, "gmacs", width=_MAP_INCHES),
            f"{COSTS['gmacs']} of every pair of segments and clusters. The cheapest pair has a frame.",
        )
    if len(maps) > _MOST_MAPS:
        names = ", ".join(name for name, _ in maps[_MOST_MAPS:])
        album.left_out.append(
            LeftOut(
                heading, f"{len(maps) - _MOST_MAPS} more maps ({names}) have no room here", "pick them with --where"
            )
        )


def _no_map() -> Figure:
    raise DataError("a map needs runs of one method with several segments or clusters", "make sweep SWEEP=segments")


def _add_trade_offs(summary: pd.DataFrame, album: Album) -> None:
    for cost in ("gmacs", "encode_ms", "memory_mb"):
        what = COSTS[cost]

        def draw(cost: str = cost) -> Figure:
            if len(summary) < 2:
                raise DataError("a trade-off needs at least two settings, and there is one", "make sweep SWEEP=method")
            return pareto(summary, cost, album.metric)

        album.add(
            f"pareto-{cost.replace('_', '-')}",
            f"Accuracy against {what}",
            draw,
            f"{title(album.metric)} against {what}, one mark a setting. The line joins the settings that no other "
            "beats in both; bars are intervals over queries.",
        )


def _seeds(material: Material, metric: str) -> Figure:
    if (material.summary["n_seeds"] < 2).all():
        raise DataError("every setting has one seed", "make sweep SWEEP=seeds")
    return seed_spread(material.summary, material.runs, metric)


def _add_differences(material: Material, album: Album) -> None:
    heading, metric = "Differences from the baseline", album.metric
    if material.baseline is None:
        album.left_out.append(LeftOut(heading, "there is no baseline among these runs", "train with METHOD=baseline"))
        return
    able = [one for one in material.against if one.verdict is not None]
    able.sort(key=lambda one: one.difference, reverse=more_is_better(metric))
    names = [material.names[one.setting] for one in able]
    reference = material.names[material.baseline]
    small = small_print(material.summary, metric, more="p-values after Holm's correction")
    notes = [f"p {'' if p.startswith('<') else '= '}{p}" for p in (probability(one.p_holm) for one in able)]
    decides = "What crosses 0 cannot be told from the baseline; whether the rest can is decided by p after Holm's"
    decides += " correction."
    if any(not is_given(one.p_holm) for one in able):
        notes, small = [], small_print(material.summary, metric)
        decides = "They are so wide that all of them together hold; what crosses 0 cannot be told from the baseline."
    album.add(
        "differences",
        heading,
        lambda: differences(
            names,
            [one.difference for one in able],
            [one.low for one in able],
            [one.high for one in able],
            reference=reference,
            value=metric,
            notes=notes or None,
            small=small,
        ),
        f"{title(metric)} of each setting less that of the baseline, on the same queries, with intervals. {decides}",
    )
