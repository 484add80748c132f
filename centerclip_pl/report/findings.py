"""What the runs say, in sentences computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from centerclip_pl.plots.naming import COSTS, is_given, more_is_better
from centerclip_pl.report.against import Against
from centerclip_pl.report.wording import at, counted, listed, metric_words, number, probability, signed

_NOTICEABLE = 0.01  # of the cost: rounding, and the few multiplications of a reducer, are no saving
UNTRAINED = ("zero-shot", "given")
_VERDICTS = {"better": "Better than", "worse": "Worse than", "unknown": "Cannot be told from"}


@dataclass(frozen=True)
class Names:
    """What the settings are called, and which of them have a part of their own in the sentences."""

    all: Sequence[str]
    best: int
    baseline: int | None


def best_setting(summary: pd.DataFrame, metric: str) -> int:
    """The row with the best mean; of equal ones the cheapest, then the first.

    Args:
        summary: with the index 0, 1, ...
        metric: at least one row has it.
    """
    sign = -1 if more_is_better(metric) else 1
    ordered = pd.DataFrame({"value": sign * summary[metric], "gmacs": summary["gmacs"].fillna(np.inf)})
    return int(ordered.dropna(subset="value").sort_values(["value", "gmacs"], kind="stable").index[0])


def cheapest_within(summary: pd.DataFrame, metric: str, best: int, cost: str = "gmacs") -> int | None:
    """The cheapest setting whose figure lies within the best one's interval; None without an interval or a cost."""
    low, high = at(summary, best, f"{metric} low"), at(summary, best, f"{metric} high")
    if not (is_given(low) and is_given(high)) or summary[cost].notna().sum() < 2:
        return None
    inside = summary[metric] >= low if more_is_better(metric) else summary[metric] <= high
    able = summary[inside & summary[cost].notna()]
    return int(able.index[able[cost].argmin()]) if len(able) else None


def findings(
    summary: pd.DataFrame, names: Names, metric: str, against: Sequence[Against], confidence: float
) -> list[str]:
    """The sentences of a section.

    Args:
        summary: of :func:`centerclip_pl.statistics.summarise`, with the index 0, 1, ...
        names: of its rows.
        metric: what they are about.
        against: the comparisons of the other settings with the baseline; empty without one.
        confidence: of the intervals.
    """
    found = [_best(summary, names, metric, confidence)]
    if len(summary) > 1:
        compared = any(one.setting == names.best and one.verdict is not None for one in against)
        found.append(_winner(len(summary), compared))
    found += _against(names, metric, against, confidence)
    cheapest = _cheapest(summary, names, metric)
    if cheapest:
        found.append(cheapest)
    spread = _spread(summary, metric)
    if spread:
        found.append(spread)
    return found


def _best(summary: pd.DataFrame, names: Names, metric: str, confidence: float) -> str:
    value, std, low, high = (at(summary, names.best, metric + part) for part in ("", " std", " low", " high"))
    n_seeds = int(at(summary, names.best, "n_seeds"))
    seeds = "one seed" if n_seeds == 1 else f"mean of {n_seeds} seeds, standard deviation {number(std)}"
    interval = (
        f"{100 * confidence:g} % interval over queries {number(low)} to {number(high)}"
        if is_given(low) and is_given(high)
        else "no interval over queries: there are no ranks"
    )
    name, figure = names.all[names.best], metric_words(metric)
    if len(summary) == 1:
        return f"The one setting, {name}, has {figure} {number(value)} ({seeds}; {interval})."
    return f"Best of {len(summary)} settings by {figure}: {name}, {number(value)} ({seeds}; {interval})."


def _winner(settings: int, compared: bool) -> str:
    verdict = " Whether it is better than the baseline, the corrected comparison says." if compared else ""
    return (
        f"It was picked among {settings} settings by the very figures shown here, so its own figure is somewhat too "
        f"good: the best of many is partly lucky.{verdict} How good it is, further seeds and other test videos would "
        "tell."
    )


def _against(names: Names, metric: str, against: Sequence[Against], confidence: float) -> list[str]:
    if names.baseline is None:
        return []
    name = names.all[names.baseline]
    baseline = "the baseline" if name == "baseline" else f"the baseline ({name})"
    able = [one for one in against if one.verdict is not None]
    said = []
    for verdict, words in _VERDICTS.items():
        of = sorted((one for one in able if one.verdict == verdict), key=lambda one: -abs(one.difference))
        if of:
            detail = [f"{names.all[one.setting]} ({_detail(one)})" for one in of]
            said.append(f"{words} {baseline} by {metric_words(metric)}: {listed(detail, most=6, mark='; ')}.")
    if len(able) > 1:
        how = "p-values after Holm's correction" if is_given(able[0].p_holm) else "intervals corrected after Bonferroni"
        said.append(
            f"These {len(able)} comparisons are of the same queries, by {how}: the chance that any of them is called "
            f"better or worse falsely is at most {100 * (1 - confidence):.3g} %. What cannot be told is not shown to "
            "be equal: more seeds or more test videos may tell."
        )
    if any(not one.over_seeds for one in able):
        said.append(
            "Where one of two settings has one seed, the comparison is between two trained models: it says nothing "
            "about training either of them again."
        )
    failed = [one for one in against if one.verdict is None]
    if failed:
        which = listed([names.all[one.setting] for one in failed], mark="; ")
        said.append(f"Not compared with {baseline}: {which} ({failed[0].why}).")
    return said


def _detail(one: Against) -> str:
    p = f", p {_equals(one.p_holm)}" if one.verdict != "unknown" and is_given(one.p_holm) else ""
    return f"{signed(one.difference)}{p}"


def _cheapest(summary: pd.DataFrame, names: Names, metric: str) -> str | None:
    if len(summary) < 2:
        return None
    index = cheapest_within(summary, metric, names.best)
    if index is None:
        return None
    most, least = at(summary, names.best, "gmacs"), at(summary, index, "gmacs")
    saved = 1 - least / most if is_given(most) and most > 0 else 0.0
    if index == names.best or (is_given(most) and saved < _NOTICEABLE):
        return f"No setting within the best one's interval is cheaper; that takes {number(most, 2)} {COSTS['gmacs']}."
    less = ""
    if is_given(most):
        less = f", {100 * saved:.0f} % fewer than the best one's {number(most, 2)}"
    value = at(summary, index, metric)
    return (
        f"Cheapest setting within the best one's interval: {names.all[index]}, {number(least, 2)} {COSTS['gmacs']}"
        f"{less}, at {number(value)} ({signed(value - at(summary, names.best, metric))}). That is no test of the two: "
        "`centerclip compare` makes one, on the same queries."
    )


def _spread(summary: pd.DataFrame, metric: str) -> str | None:
    several = summary[summary["n_seeds"] > 1]
    if "selection" in several:  # seeds of weights that were not trained are no trainings
        several = several[~several["selection"].isin(UNTRAINED)]
    if several.empty:
        return None
    low, high = several[f"{metric} std"].min(), several[f"{metric} std"].max()
    if not is_given(high):
        return None
    low, high = number(low), number(high)
    reach = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"Training again with another seed moves {metric_words(metric)} by {reach} (standard deviation over the seeds "
        f"of a setting, {counted(len(several), 'setting')} with two seeds or more). One seed alone would not have "
        "shown differences of this size to be real."
    )


def _equals(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"
