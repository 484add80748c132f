"""The runs of one protocol become a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.plots.naming import setting_names
from centerclip_pl.report.against import compare_with, comparison_table
from centerclip_pl.report.caveats import caveats, marks
from centerclip_pl.report.facts import facts_of
from centerclip_pl.report.figures import Album, Material, draw_figures
from centerclip_pl.report.findings import Names, best_setting, findings
from centerclip_pl.report.page import Section
from centerclip_pl.report.provenance import Provenance
from centerclip_pl.report.tables import run_table, setting_tables
from centerclip_pl.report.wording import at
from centerclip_pl.runs import read_run_ranks
from centerclip_pl.runs.columns import is_metric
from centerclip_pl.runs.filtering import select
from centerclip_pl.statistics import summarise
from centerclip_pl.statistics.settings import setting_groups


@dataclass(frozen=True)
class Options:
    """What a report is about.

    Args:
        metric: what settings are ranked and compared by.
        baseline: a condition on runs that picks one setting; None: no comparison.
        confidence: of intervals and verdicts, in (0, 1).
        resamples: of the bootstrap.
    """

    metric: str = "t2v/R@1"
    baseline: str | None = "method == 'baseline'"
    confidence: float = 0.95
    resamples: int = 10_000


def build_section(
    name: str, heading: str, runs: pd.DataFrame, provenance: Mapping[str, Provenance], options: Options
) -> Section:
    """Computes a section.

    Args:
        name: its id in the page.
        heading: its title.
        runs: rows of ``read_runs`` of one protocol.
        provenance: by the values of the column ``run``.
        options: what it is about.

    Raises:
        ConfigError: no run has the metric, or the baseline's condition picks several settings.
    """
    metric = options.metric
    _require_metric(runs, metric, heading)
    summary = summarise(runs, confidence=options.confidence, resamples=options.resamples).reset_index(drop=True)
    names = setting_names(summary)
    best = best_setting(summary, metric)
    baseline = _baseline(runs, summary, names, options.baseline)
    against = (
        [] if baseline is None else compare_with(baseline, runs, summary, metric, options.confidence, options.resamples)
    )
    album = Album(name, metric)
    draw_figures(Material(runs, summary, names, _ranks(summary, names, best, baseline), baseline, against), album)
    tags = {best: ["best"]} | ({} if baseline is None else {baseline: ["baseline"]})
    if baseline == best:
        tags = {best: ["best", "baseline"]}
    tables = setting_tables(summary, names, metric=metric, tags=tags, confidence=options.confidence)
    if against and baseline is not None:
        tables.append(comparison_table(against, names, names[baseline], metric, options.confidence))
    of_run = _setting_of(runs)
    return Section(
        name=name,
        title=heading,
        facts=facts_of(runs, summary),
        findings=[
            *findings(summary, Names(names, best, baseline), metric, against, options.confidence),
            *([_no_baseline(options.baseline)] if baseline is None else []),
        ],
        caveats=caveats(runs, summary, names),
        tables=tables,
        pictures=album.pictures,
        left_out=album.left_out,
        runs=run_table(
            runs,
            [names[of_run[run]] for run in runs["run"]],
            [marks(run) for _, run in runs.iterrows()],
            [provenance[run].command if run in provenance else "" for run in runs["run"]],
        ),
    )


def _require_metric(runs: pd.DataFrame, metric: str, heading: str) -> None:
    if metric in runs.columns and is_metric(metric) and runs[metric].notna().any():
        return
    able = [name for name in runs.columns if is_metric(name) and runs[name].notna().any()]
    raise ConfigError(
        f"--metric={metric}: no run of {heading} has this metric",
        f"use one of {', '.join(able)}; or leave these runs out with --where",
    )


def _setting_of(runs: pd.DataFrame) -> dict[str, int]:
    """The row of the summary that each run belongs to; repeated seeds, which it leaves out, included."""
    return {run: place for place, group in enumerate(setting_groups(runs)) for run in group["run"]}


def _baseline(runs: pd.DataFrame, summary: pd.DataFrame, names: Sequence[str], condition: str | None) -> int | None:
    if condition is None:
        return None
    of_run = _setting_of(runs)
    found = sorted({of_run[run] for run in select(runs, condition)["run"]})
    if len(found) > 1:
        raise ConfigError(
            f"--baseline: {condition} picks {len(found)} settings: {'; '.join(names[index] for index in found)}",
            "add to the condition what picks one of them, e.g. \"method == 'baseline' and epochs == 5\"",
        )
    return found[0] if found else None


def _no_baseline(condition: str | None) -> str:
    if condition is None:
        return "Nothing was compared with a baseline: none was asked for."
    return (
        f"There is no baseline among these runs (no run with {condition}): what clustering costs or gains cannot be "
        "told from them. A run with METHOD=baseline, or another condition by --baseline, brings the comparison."
    )


def _ranks(
    summary: pd.DataFrame, names: Sequence[str], best: int, baseline: int | None
) -> dict[str, list[pd.DataFrame]]:
    """The ranks of the best setting and of the baseline, as far as they are there."""
    found = {}
    for index in dict.fromkeys([best] if baseline is None else [best, baseline]):
        try:
            found[names[index]] = [read_run_ranks(run) for run in at(summary, index, "runs")]
        except DataError:  # the notes of the summary say so
            continue
    return found


def heading_of(runs: pd.DataFrame) -> str:
    """``demo, test split, protocol demo-200``."""
    first = runs.iloc[0]
    return f"{first['dataset']}, {first['split']} split, protocol {first['protocol']}"
