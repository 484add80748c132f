"""What one seed would have said, where several were run."""

from __future__ import annotations

import pandas as pd

from centerclip_pl.plots.answers import best_place, runs_of
from centerclip_pl.plots.naming import more_is_better, setting_names
from centerclip_pl.statistics import Comparison, compare, holm

WORDS = {"B is better": "better", "A is better": "worse"}
UNKNOWN = "cannot be told"


def against_reference(
    runs: pd.DataFrame,
    summary: pd.DataFrame,
    reference: int,
    value: str = "t2v/R@1",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Every other setting against one, query by query, with Holm's correction over the settings.

    Args:
        runs: of :func:`centerclip_pl.runs.read_runs`, with ranks.
        summary: of them.
        reference: its place in ``summary``.
        value: a metric with ranks.
        confidence: of the intervals, and 1 less the level of the verdicts.
        resamples: of each comparison.

    Returns:
        One row each: ``setting`` (name), ``difference`` (setting less reference), ``low``, ``high`` (interval of this
        comparison alone), ``p``, ``p (Holm)``, ``verdict`` (by the corrected p), ``of`` (``"methods"``: over videos and
        seeds, ``"models"``: over videos alone).

    Raises:
        DataError: runs without ranks, or with different queries.
    """
    names, rows = setting_names(summary), []
    for place in range(len(summary)):
        if place != reference:
            found = _compared(
                runs_of(runs, summary, reference), runs_of(runs, summary, place), value, resamples, confidence
            )
            rows.append(
                {
                    "setting": names[place],
                    "difference": found.main.difference.value,
                    "low": found.main.difference.low,
                    "high": found.main.difference.high,
                    "p": found.main.difference.p,
                    "of": "methods" if found.of_methods else "models",
                }
            )
    columns = ["setting", "difference", "low", "high", "p", "p (Holm)", "verdict", "of"]
    table = pd.DataFrame(rows, columns=columns)
    known = table["p"].notna()
    table.loc[known, "p (Holm)"] = holm(table.loc[known, "p"].astype(float).tolist())
    better = table["difference"] > 0 if more_is_better(value) else table["difference"] < 0
    told = table["p (Holm)"].astype(float) <= 1 - confidence
    table["verdict"] = better.map({True: "better", False: "worse"}).where(told, UNKNOWN)
    return table.astype({"p": float, "p (Holm)": float})


def single_seed_verdicts(
    runs: pd.DataFrame,
    summary: pd.DataFrame,
    reference: int,
    value: str = "t2v/R@1",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """The verdict on each setting that each seed alone would have given, against the same seed of the reference.

    Args:
        runs: of :func:`centerclip_pl.runs.read_runs`, with ranks.
        summary: of them.
        reference: its place in ``summary``.
        value: a metric with ranks.
        confidence: of the intervals.
        resamples: of each comparison.

    Returns:
        One row for each setting and each seed that both have: ``setting``, ``seed``, ``difference``, ``verdict``
        (``"better"``, ``"worse"``, ``"cannot be told"``: by the interval over videos of these two models).

    Raises:
        DataError: runs without ranks, or with different queries.
    """
    names, rows = setting_names(summary), []
    base = runs_of(runs, summary, reference)
    for place in range(len(summary)):
        other = runs_of(runs, summary, place)
        for seed in sorted(set(base["seed"].dropna()) & set(other["seed"].dropna())) if place != reference else []:
            found = _compared(base[base["seed"] == seed], other[other["seed"] == seed], value, resamples, confidence)
            rows.append(
                {
                    "setting": names[place],
                    "seed": int(seed),
                    "difference": found.main.difference.value,
                    "verdict": WORDS.get(found.verdict, UNKNOWN),
                }
            )
    return pd.DataFrame(rows, columns=["setting", "seed", "difference", "verdict"])


def winners_by_seed(runs: pd.DataFrame, summary: pd.DataFrame, value: str = "t2v/R@1") -> dict[int, str]:
    """The setting that is best by each seed alone, among the seeds that all settings have."""
    names = setting_names(summary)
    parts = [runs_of(runs, summary, place).dropna(subset=["seed", value]) for place in range(len(summary))]
    shared = set.intersection(*(set(part["seed"]) for part in parts)) if parts else set()
    found = {}
    for seed in sorted(shared):
        figures = [float(part.loc[part["seed"] == seed, value].iloc[0]) for part in parts]
        found[int(seed)] = names[best_place(pd.DataFrame({value: figures}), value)]
    return found


def one_seed_in_words(together: pd.DataFrame, single: pd.DataFrame, winners: dict[int, str]) -> list[str]:
    """How often a single seed would have said something else than all seeds together.

    Args:
        together: of :func:`against_reference`.
        single: of :func:`single_seed_verdicts`.
        winners: of :func:`winners_by_seed`.
    """
    if single.empty:
        return ["No setting shares a seed with the reference: nothing to say about single seeds."]
    both = single.merge(together[["setting", "verdict", "difference"]], on="setting", suffixes=("", " of all"))
    claimed = both["verdict"] != UNKNOWN
    loud = claimed & (both["verdict of all"] == UNKNOWN)
    opposite = claimed & (both["verdict of all"] != UNKNOWN) & (both["verdict"] != both["verdict of all"])
    reach = single.groupby("setting")["difference"].agg(["min", "max"])
    flips = [str(name) for name in reach.index[((reach["min"] < 0) & (reach["max"] > 0)).to_numpy()]]
    said = [
        f"{int(loud.sum())} of {len(both)} comparisons with one seed claim a difference that all seeds together do not "
        f"bear out, {int(opposite.sum())} claim the opposite.",
        f"The sign of the difference depends on the seed in {len(flips)} of {len(reach)} settings"
        + (f": {', '.join(flips)}." if flips else "."),
    ]
    if len(winners) > 1:
        different = dict.fromkeys(winners.values())
        if len(different) == 1:
            said.append(f"Every seed alone has the same best setting: {next(iter(different))}.")
        else:
            each = ", ".join(f"seed {seed}: {name}" for seed, name in winners.items())
            said.append(f"The best setting depends on the seed ({each}).")
    return said


def _compared(a: pd.DataFrame, b: pd.DataFrame, value: str, resamples: int, confidence: float) -> Comparison:
    return compare(a, b, metric=value, resamples=resamples, confidence=confidence)
