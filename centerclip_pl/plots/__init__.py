"""TABLES OF RUNS -> FIGURES, for notebooks, reports and papers.

Every function takes a table (of ``centerclip_pl.statistics.summarise`` or ``centerclip_pl.runs.read_runs``) and returns
a ``matplotlib.figure.Figure`` that pyplot does not know; :func:`save` writes it, :func:`svg` puts it into a page.
"""

from centerclip_pl.plots.blocks import over_blocks
from centerclip_pl.plots.heatmap import heat_map
from centerclip_pl.plots.pareto import front, pareto
from centerclip_pl.plots.published import against_published
from centerclip_pl.plots.recall_curve import recall_curve
from centerclip_pl.plots.seeds import differences, seed_spread
from centerclip_pl.plots.style import save, style, svg
from centerclip_pl.plots.tables import groups

__all__ = [
    "against_published",
    "differences",
    "front",
    "groups",
    "heat_map",
    "over_blocks",
    "pareto",
    "recall_curve",
    "save",
    "seed_spread",
    "style",
    "svg",
]
