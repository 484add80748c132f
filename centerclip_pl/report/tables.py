"""The tables of a section: one row a setting, or one row a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from centerclip_pl.plots.naming import COSTS, is_given, more_is_better, short_title, shown, title
from centerclip_pl.report.page import Cell, Column, Row, Table
from centerclip_pl.report.wording import number
from centerclip_pl.runs.columns import COST, METRICS, is_metric, is_transductive

_DIRECTIONS = {"t2v": "Text to video", "v2t": "Video to text"}
_COST_DIGITS = {"gmacs": 2, "encode_ms": 1, "clustering_ms": 1, "memory_mb": 0}
_COST_HEADS = {"gmacs": "GMACs", "encode_ms": "encode ms", "clustering_ms": "clustering ms", "memory_mb": "memory MiB"}
_EXPLAINED = {
    "R@1": "Share of the queries whose own candidate comes first, in percent",
    "R@5": "Share of the queries whose own candidate is among the first 5, in percent",
    "R@10": "Share of the queries whose own candidate is among the first 10, in percent",
    "MdR": "Median rank of the own candidate; 1 is best",
    "MnR": "Mean rank of the own candidate; 1 is best",
}


def setting_tables(
    summary: pd.DataFrame, names: Sequence[str], *, metric: str, tags: Mapping[int, Sequence[str]], confidence: float
) -> list[Table]:
    """The tables of settings, the best by ``metric`` first in each.

    Args:
        summary: of :func:`centerclip_pl.statistics.summarise`, with the index 0, 1, ...
        names: what the rows are called.
        metric: what the rows are sorted by.
        tags: marks by the number of the row.
        confidence: of the intervals.

    Returns:
        A table for each direction, with the cost beside the first, then one for each family of further metrics.
    """
    order = summary[metric].sort_values(ascending=not more_is_better(metric), kind="stable").index
    families: dict[str, list[str]] = {}
    for column in summary.columns:
        if is_metric(column) and summary[column].notna().any():
            families.setdefault(column.rpartition("/")[0], []).append(column)
    first = metric.rpartition("/")[0]
    ordered = sorted(families, key=lambda family: (family != first, family not in _DIRECTIONS, family))
    share = f"{100 * confidence:g} %"
    tables = []
    for family in ordered:
        metrics = families[family]
        costs = [cost for cost in COST if family == ordered[0] and summary[cost].notna().any()]
        columns = [Column("Setting"), Column("Seeds", numeric=True, falling=True), *map(_metric_column, metrics)]
        columns += [Column(_COST_HEADS[cost], numeric=True, explanation=COSTS[cost]) for cost in costs]
        rows = []
        for index in order:
            setting = summary.loc[index]
            if not any(is_given(setting[name]) for name in metrics):
                continue
            n_seeds = int(setting["n_seeds"])
            cells = [Cell(names[index], sort=names[index]), Cell(str(n_seeds), sort=n_seeds)]
            cells += [_metric_cell(setting, name, n_seeds) for name in metrics]
            cells += [_number_cell(setting[cost], _COST_DIGITS[cost]) for cost in costs]
            rows.append(Row(cells, tags.get(index, ())))
        tables.append(
            Table(
                f"settings-{family.replace('/', '-')}",
                _caption(family),
                columns,
                rows,
                _notes(summary, metrics, share, costs),
            )
        )
    return tables


def run_table(
    runs: pd.DataFrame, names: Sequence[str], marks: Sequence[Sequence[str]], commands: Sequence[str]
) -> Table:
    """Every run with where it comes from.

    Args:
        runs: rows of ``read_runs``.
        names: the setting of each row.
        marks: what has to be said about each row, such as ``chosen on test``.
        commands: what was typed.
    """
    metrics = [name for name in METRICS if name in runs.columns and name.endswith("R@1")]
    columns = [
        Column("Setting"),
        Column("Seed", numeric=True),
        *(Column(title(name), numeric=True, falling=more_is_better(name)) for name in metrics),
        Column("Checkpoint", explanation="How the weights that were tested were chosen"),
        Column("Tested", explanation="UTC"),
        Column("Minutes", numeric=True, explanation="From the start of the command to the end of the test"),
        Column("Measured on"),
        Column("Version", explanation="Of centerclip-pl, with the commit"),
        Column("Command", explanation="What was typed, with the run's folder"),
    ]
    rows = []
    for (_, run), name, mark, command in zip(runs.iterrows(), names, marks, commands, strict=True):
        minutes = run["duration_s"] / 60 if is_given(run["duration_s"]) else None
        when = _when(run["created"])
        device = ", ".join(shown(run[part]) for part in ("device", "dtype") if is_given(run[part]))
        commit = shown(run["commit"]) if is_given(run["commit"]) else ""
        cells = [
            Cell(name, sort=name),
            Cell(shown(run["seed"]) if is_given(run["seed"]) else "–", sort=_sort(run["seed"])),
            *(_number_cell(run[metric], 1) for metric in metrics),
            Cell(selection_words(run), sort=selection_words(run)),
            Cell(when, sort=when),
            _number_cell(minutes, 1),
            Cell(device or "–", sort=device or None),
            Cell(shown(run["version"]), small=short_commit(commit), sort=f"{shown(run['version'])} {commit}"),
            Cell(command or "–", small=str(run["run"]), sort=command or None, code=True),
        ]
        rows.append(Row(cells, mark))
    return Table("runs-table", "All runs, with what it takes to run them again", columns, rows)


def selection_words(run: Mapping[str, Any] | pd.Series) -> str:
    """How the tested weights were chosen: ``best on val``, ``last``, ``zero-shot``."""
    rule, split = run["selection"], run["selected_on"]
    if not is_given(rule):
        return "–"
    return f"{shown(rule)} on {shown(split)}" if is_given(split) and rule == "best" else shown(rule)


def short_commit(commit: str) -> str:
    """The first ten letters of a commit's hash; ``-dirty`` stays behind them."""
    found, dirty, _ = commit.partition("-dirty")
    return found[:10] + dirty


def _caption(family: str) -> str:
    if family in _DIRECTIONS:
        return _DIRECTIONS[family]
    words = title(f"{family}/R@1").replace(" R@1 (%)", "")
    return words[:1].upper() + words[1:]


def _metric_column(metric: str) -> Column:
    figure = metric.rpartition("/")[2]
    mark = "*" if is_transductive(metric) else ""
    falling = more_is_better(metric)
    return Column(short_title(metric) + mark, numeric=True, falling=falling, explanation=_EXPLAINED.get(figure, ""))


def _metric_cell(setting: pd.Series, metric: str, n_seeds: int) -> Cell:
    mean = setting[metric]
    if not is_given(mean):
        return Cell("–")
    std, low, high = (setting.get(f"{metric} {part}") for part in ("std", "low", "high"))
    text = f"{mean:.1f} ± {std:.1f}" if n_seeds > 1 and is_given(std) else f"{mean:.1f}"
    small = f"{number(low)} to {number(high)}" if is_given(low) and is_given(high) else ""
    return Cell(text, small=small, sort=float(mean))


def _number_cell(value: Any, digits: int) -> Cell:
    return Cell(number(value, digits), sort=_sort(value))


def _sort(value: Any) -> float | None:
    return float(value) if is_given(value) else None


def _when(created: Any) -> str:
    return str(created)[:16].replace("T", " ") if is_given(created) else "–"


def _notes(summary: pd.DataFrame, metrics: Sequence[str], share: str, costs: Sequence[str]) -> list[str]:
    several = bool((summary["n_seeds"] > 1).any())
    notes = []
    if several:
        notes.append("Mean ± standard deviation over the seeds; a row without ± has one seed.")
    if any(f"{name} low" in summary and summary[f"{name} low"].notna().any() for name in metrics):
        notes.append(
            f"Below, small: the {share} interval over queries (bootstrap over videos): what other test videos could "
            "have given for these trained models."
        )
    else:
        notes.append("No intervals over queries: the runs have no ranks of these figures.")
    if costs:
        notes.append("Cost: the median over the seeds, of one video.")
    if any(is_transductive(name) for name in metrics):
        notes.append(
            "* transductive: these figures use other queries, or a bank of training queries, beside the query itself; "
            "do not compare them with figures that do not."
        )
    return notes
