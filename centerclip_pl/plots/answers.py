"""What a table of settings says about a question, in sentences computed from it; the notebooks end with them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.plots.naming import in_short, more_is_better, setting_names, shown, title
from centerclip_pl.plots.pareto import front
from centerclip_pl.plots.tables import format_value, numbers, over_queries
from centerclip_pl.statistics import Comparison, compare


def best_place(summary: pd.DataFrame, value: str, cost: str = "gmacs") -> int:
    """The place (0, 1, ...) of the row with the best mean; of equal ones the cheapest, then the first.

    Raises:
        DataError: no row has a value.
    """
    figures, costs = numbers(summary, value), np.nan_to_num(numbers(summary, cost), nan=np.inf)
    if not np.isfinite(figures).any():
        raise DataError(f"no run has a value of {value}", "test again with this version")
    good = np.where(np.isfinite(figures), -figures if more_is_better(value) else figures, np.inf)
    return int(np.lexsort((costs, good))[0])


def runs_of(runs: pd.DataFrame, summary: pd.DataFrame, place: int) -> pd.DataFrame:
    """The rows of ``runs`` that a row of their summary stands for."""
    wanted = {str(run) for run in summary["runs"].iloc[place]}
    return runs[runs["run"].astype(str).isin(wanted)]


def figure_in_words(summary: pd.DataFrame, place: int, value: str) -> str:
    """``70.2 ± 1.6 (3 seeds; 95 % interval over queries 64.2 to 75.8)``."""
    row = summary.iloc[place]
    middle, std, low, high = (
        float(numbers(row.to_frame().T, f"{value}{end}")[0]) for end in ("", " std", " low", " high")
    )
    count = int(row.get("n_seeds", 1))
    spread = f" ± {format_value(value, std)}" if np.isfinite(std) else ""
    known = f"; {over_queries(summary)} {format_value(value, low)} to {format_value(value, high)}"
    seeds = "one seed" if count <= 1 else f"{count} seeds"
    return f"{format_value(value, middle)}{spread} ({seeds}{known if np.isfinite(low) else ''})"


def best_in_words(summary: pd.DataFrame, value: str = "t2v/R@1") -> str:
    """Which setting is best, by how much it leads, and how far that can be trusted."""
    names, best = setting_names(summary), best_place(summary, value)
    figure = figure_in_words(summary, best, value)
    text = f"Best {in_short(value)} of {len(summary)} settings: **{names[best]}**, {figure}."
    if len(summary) > 1:
        others = summary.drop(index=summary.index[best])
        if np.isfinite(numbers(others, value)).any():
            second = best_place(others, value)
            lead = abs(float(numbers(summary, value)[best] - numbers(others, value)[second]))
            second_name = [name for place, name in enumerate(names) if place != best][second]
            by = format_value(value, lead)
            if lead == 0:
                text += f" {second_name} has the same."
            else:
                text += f" It leads {second_name} by {'less than 0.05' if float(by) == 0 else by}."
        text += " It was picked by the figures shown here, so that some of its lead is luck."
    return text


def cheapest_as_good(
    runs: pd.DataFrame, summary: pd.DataFrame, value: str = "t2v/R@1", cost: str = "gmacs", *, resamples: int = 2000
) -> tuple[int, Comparison] | None:
    """The cheapest setting that cannot be told from the best one, query by query.

    Args:
        runs: of :func:`centerclip_pl.runs.read_runs`.
        summary: of them.
        value: a metric with ranks.
        cost: a column of costs.
        resamples: of each comparison.

    Returns:
        Its place in ``summary``, and the comparison with the best one (A: the best; B: the cheaper one); None where
        every cheaper setting is worse, or has no ranks.
    """
    best, costs = best_place(summary, value, cost), numbers(summary, cost)
    for place in np.argsort(costs, kind="stable"):
        if place == best or not costs[place] < costs[best]:
            continue
        try:
            found = compare(
                runs_of(runs, summary, best), runs_of(runs, summary, int(place)), metric=value, resamples=resamples
            )
        except DataError:  # without ranks nothing can be told
            continue
        if found.verdict != "A is better" and np.isfinite(found.main.difference.low):
            return int(place), found
    return None


def cheapest_in_words(
    runs: pd.DataFrame, summary: pd.DataFrame, value: str = "t2v/R@1", cost: str = "gmacs", *, resamples: int = 2000
) -> str:
    """:func:`cheapest_as_good` in a sentence."""
    names, best, costs = setting_names(summary), best_place(summary, value, cost), numbers(summary, cost)
    if not np.isfinite(costs[best]):
        return f"The cost ({title(cost)}) of the best setting is not known."
    found = cheapest_as_good(runs, summary, value, cost, resamples=resamples)
    if found is None:
        return f"No cheaper setting was found that cannot be told from {names[best]}."
    place, comparison = found
    difference = comparison.main.difference
    return (
        f"The cheapest setting that cannot be told from the best one is **{names[place]}**: "
        f"{format_value(cost, costs[place])} instead of {format_value(cost, costs[best])} {title(cost)} "
        f"({_percent(costs[place], costs[best])}), {in_short(value)} {_signed(difference.value)} "
        f"({100 * comparison.confidence:g} % interval {_signed(difference.low)} to {_signed(difference.high)}"
        f"{', over videos and seeds' if comparison.of_methods else ', over videos alone'}). "
        "Not told apart is not the same as equal: the interval says how much may be lost."
    )


def effect_in_words(part: pd.DataFrame, option: str, other: str, value: str = "t2v/R@1", cost: str = "gmacs") -> str:
    """What raising an option by one step does, at the same value of the other option, on average.

    Args:
        part: one row for each pair of options, as for :func:`centerclip_pl.plots.heat_map`.
        option: ``"segments"`` or ``"clusters"``.
        other: the other one.
        value: a metric.
        cost: a column of costs.
    """
    steps = []
    for _, line in part.dropna(subset=[option, other]).sort_values(option).groupby(other):
        for before, after in pairwise(range(len(line))):
            gain, more = (float(np.diff(numbers(line, name)[[before, after]])[0]) for name in (value, cost))
            steps.append((gain, more, numbers(line, cost)[before]))
    known = np.array([step for step in steps if np.isfinite(step[0])])
    if not len(known):
        return f"No two settings differ in {option} alone."
    gains, more, base = known.T
    better = int(np.sum(gains > 0 if more_is_better(value) else gains < 0))
    values = ", ".join(shown(number) for number in sorted(part[option].dropna().unique()))
    price = f", for {_percent(float(np.mean(1 + more / base)), 1.0)} {title(cost)}" if np.isfinite(more).all() else ""
    return (
        f"One step up in {option} ({values}), at the same {other}: {in_short(value)} {_signed(float(gains.mean()))} on "
        f"average{price}; better in {better} of {len(gains)} steps."
    )


def budget_in_words(part: pd.DataFrame, value: str = "t2v/R@1") -> list[str]:
    """Settings that keep the same number of tokens of a video, split into segments in different ways."""
    part = part.dropna(subset=["segments", "clusters", value])
    found = []
    for tokens, same in part.groupby(part["segments"] * part["clusters"]):
        if len(same) > 1:
            ordered = same.sort_values(value, ascending=not more_is_better(value))
            said = [
                f"{shown(row['segments'])}×{shown(row['clusters'])} {format_value(value, row[value])}"
                for _, row in ordered.iterrows()
            ]
            found.append(f"With {shown(float(tokens))} tokens of a video in all, {in_short(value)}: {', '.join(said)}.")
    return found or ["No two settings keep the same number of tokens in all."]


def front_in_words(summary: pd.DataFrame, cost: str = "gmacs", value: str = "t2v/R@1") -> str:
    """Which settings no other beats in both, from cheap to expensive, and where a baseline stands."""
    names, costs, figures = setting_names(summary), numbers(summary, cost), numbers(summary, value)
    on_front = front(costs, figures, more_is_better=more_is_better(value))
    if not len(on_front):
        return f"No setting has both {in_short(value)} and {title(cost)}."
    said = [f"{names[i]} ({format_value(value, figures[i])} at {format_value(cost, costs[i])})" for i in on_front]
    text = f"By {title(cost)}, no other setting beats: {', '.join(said)}."
    for place in np.flatnonzero(summary["method"].to_numpy() == "baseline"):
        if place not in on_front and np.isfinite(costs[place]):
            what = f"{format_value(value, figures[place])} at {format_value(cost, costs[place])}"
            text += f" The baseline ({what}) is not among them."
    return text + " Where intervals overlap, the order may be another one with other videos."


def blocks_in_words(line: pd.DataFrame, value: str = "t2v/R@1", cost: str = "gmacs") -> str:
    """Of one setting after several blocks: the best, the cheapest, and what lies between them."""
    line = line.sort_values("after_block")
    figures, costs, blocks = numbers(line, value), numbers(line, cost), numbers(line, "after_block")
    best = best_place(line, value, cost)
    text = f"Best after block {blocks[best]:g}: {figure_in_words(line, best, value)}"
    if np.isfinite(costs).any():
        cheap = int(np.nanargmin(costs))
        text += f"; cheapest after block {blocks[cheap]:g}: {format_value(cost, costs[cheap])} {title(cost)}"
        if cheap != best:
            text += (
                f" ({_percent(costs[cheap], costs[best])}) with {format_value(value, figures[cheap])} "
                f"({_signed(float(figures[cheap] - figures[best]))})"
            )
    return text + "."


def _signed(number: float) -> str:
    return f"{number:+.1f}".replace("-", "\N{MINUS SIGN}")


def _percent(number: float, base: float) -> str:
    return f"{100 * (number / base - 1):+.0f} %".replace("-", "\N{MINUS SIGN}") if base else ""


def as_list(sentences: list[str]) -> Any:
    """The sentences as a list of points below a cell of a notebook."""
    from IPython.display import Markdown

    return Markdown("\n".join(f"- {sentence}" for sentence in sentences))
