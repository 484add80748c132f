"""Each setting against the baseline, corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from centerclip_pl.errors import CenterCLIPError
from centerclip_pl.plots.naming import is_given, more_is_better, title
from centerclip_pl.report.page import Cell, Column, Row, Table
from centerclip_pl.report.wording import probability, signed
from centerclip_pl.statistics import Difference, compare, holm
from centerclip_pl.statistics.settings import setting_groups

_MOST_RESAMPLES = 100_000  # a confidence of 0.999999 would ask for more than there is memory and time


@dataclass(frozen=True)
class Against:
    """A setting beside the baseline.

    Args:
        setting: the row of the summary.
        difference: setting minus baseline, in the metric's unit; NaN where there is no comparison.
        low: lower end of its interval; NaN where there is none.
        high: upper end.
        p: of the paired test; NaN where there is none.
        p_holm: the same after Holm's correction over the comparisons of the section.
        verdict: of the corrected test; None where the two cannot be compared.
        over_seeds: whether the interval is over seeds as well as over queries.
        why: what stands against a comparison, or has to be said about it.
    """

    setting: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: Literal["better", "worse", "unknown"] | None
    over_seeds: bool
    why: str = ""


def compare_with(
    baseline: int, runs: pd.DataFrame, summary: pd.DataFrame, metric: str, confidence: float, resamples: int
) -> list[Against]:
    """Compares every other setting with the baseline, query by query.

    Args:
        baseline: the row of the summary.
        runs: rows of ``read_runs``.
        summary: of them, with the index 0, 1, ...
        metric: what is compared.
        confidence: in (0, 1), of the intervals and, after Holm's correction, of the verdicts.
        resamples: of the bootstrap; more are taken where the number of comparisons asks for it.

    Returns:
        One for each other setting, in the order of the summary.
    """
    groups = setting_groups(runs)
    others = [index for index in summary.index if index != baseline]
    # A p of sign flips is never below 1 / (resamples + 1), which Holm's correction multiplies by the number of
    # comparisons: with too few flips the largest difference could not be told.
    resamples = max(resamples, min(_MOST_RESAMPLES, math.ceil(2 * len(others) / (1 - confidence))))
    level = confidence
    found = {index: _compare(groups[baseline], groups[index], metric, level, resamples) for index in others}
    able = {index: main for index, main in found.items() if isinstance(main, _Compared)}
    p = [one.difference.p for one in able.values()]
    by_interval = None in p  # of median ranks: there is no test, so that intervals have to be wide enough for all
    if by_interval:
        level = 1 - (1 - confidence) / len(able)  # Bonferroni
        found |= {index: _compare(groups[baseline], groups[index], metric, level, resamples) for index in able}
        able = {index: main for index, main in found.items() if isinstance(main, _Compared)}
        adjusted = dict.fromkeys(able, math.nan)
    else:
        adjusted = dict(zip(able, map(float, holm([each for each in p if each is not None])), strict=True))
    compared = []
    for index in others:
        one = found[index]
        if isinstance(one, str):
            nothing = (math.nan,) * 5
            compared.append(Against(index, *nothing, verdict=None, over_seeds=False, why=one))
            continue
        difference = one.difference
        clear = not difference.low <= 0 <= difference.high if by_interval else adjusted[index] < 1 - confidence
        gain = difference.value if more_is_better(metric) else -difference.value
        compared.append(
            Against(
                index,
                difference.value,
                difference.low,
                difference.high,
                math.nan if difference.p is None else difference.p,
                adjusted[index],
                verdict="unknown" if not clear or math.isnan(difference.low) else "better" if gain > 0 else "worse",
                over_seeds=one.over_seeds,
            )
        )
    return compared


@dataclass(frozen=True)
class _Compared:
    difference: Difference
    over_seeds: bool


def _compare(
    baseline: pd.DataFrame, other: pd.DataFrame, metric: str, confidence: float, resamples: int
) -> _Compared | str:
    """The difference, or why there is none."""
    try:
        comparison = compare(baseline, other, metric=metric, confidence=confidence, resamples=resamples)
    except CenterCLIPError as error:
        return error.problem
    return _Compared(comparison.main.difference, comparison.of_methods)


def comparison_table(
    against: Sequence[Against], names: Sequence[str], baseline: str, metric: str, confidence: float
) -> Table:
    """The comparisons with the baseline, the largest gain first."""
    share, falling = f"{100 * confidence:g} %", more_is_better(metric)
    columns = [
        Column("Setting"),
        Column(f"{title(metric)}, difference", numeric=True, falling=falling, explanation="Setting minus baseline"),
        Column("p", numeric=True, explanation="Of the paired test, for this comparison alone"),
        Column("p, Holm", numeric=True, explanation="Corrected for the number of comparisons in this table"),
        Column("Verdict"),
        Column("Resampled", explanation="What the interval and p are about"),
    ]
    rows = []
    by_interval = any(one.verdict is not None and not is_given(one.p) for one in against)
    words = {"better": "better", "worse": "worse", "unknown": "cannot be told"}
    for one in sorted(against, key=lambda one: (one.verdict is None, -one.difference if falling else one.difference)):
        name = names[one.setting]
        if one.verdict is None:
            rows.append(Row([Cell(name, sort=name), *[Cell("–")] * 3, Cell("not compared", small=one.why), Cell("–")]))
            continue
        interval = f"{signed(one.low)} to {signed(one.high)}" if is_given(one.low) else ""
        rows.append(
            Row(
                [
                    Cell(name, sort=name),
                    Cell(signed(one.difference), small=interval, sort=one.difference),
                    Cell(probability(one.p), sort=one.p if is_given(one.p) else None),
                    Cell(probability(one.p_holm), sort=one.p_holm if is_given(one.p_holm) else None),
                    Cell(words[one.verdict], sort=one.verdict),
                    Cell(resampled := "queries and seeds" if one.over_seeds else "queries", sort=resampled),
                ]
            )
        )
    verdict = (
        f"with intervals so wide that all of them together hold at {share} (Bonferroni); the verdict is whether one "
        "leaves out 0"
        if by_interval
        else f"with {share} intervals, each for its own comparison; the verdict follows from p after Holm's "
        f"correction, at {100 * (1 - confidence):.3g} %"
    )
    notes = [
        f"Setting minus baseline on the same queries, {verdict}.",
        "Resampled: queries alone ask about other test videos for these trained models; queries and seeds ask about "
        "other trainings as well.",
    ]
    caption = "Against the baseline" if baseline == "baseline" else f"Against the baseline ({baseline})"
    return Table("against", caption, columns, rows, notes)
