"""Runs beside the published rows that they repeat: which belongs to which, how far apart, and why not comparable.

What belongs together is decided by what a row is called by: dataset, backbone, head, method, segments and clusters, and
the recipe where the run was trained. All else that differs is a reason why the two are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.runs import read_run_ranks
from centerclip_pl.runs.found import FoundRun
from centerclip_pl.runs.one_run import read_run
from centerclip_pl.statistics.intervals import CONFIDENCE, RESAMPLES, Interval, query_intervals
from centerclip_pl.statistics.seeds import drop_repeated_seeds
from centerclip_pl.statistics.settings import setting_groups
from centerclip_pl.statistics.summary import unlike_metrics
from centerclip_pl.training.comparison import compare
from centerclip_pl.training.published import DIRECTIONS, FIGURES, PublishedRow
from centerclip_pl.training.run_files import architecture_of, training_memory
from centerclip_pl.training.run_settings import effective

KEYS = tuple(f"{way}/{figure}" for way in DIRECTIONS for figure in FIGURES)
_SAME = ("model.head", "model.patch", "model.reduction")
_TOKENS = ("tokens.segments", "tokens.clusters")


@dataclass(frozen=True)
class Repetition:
    """Runs of one setting (its seeds) that repeat a published row."""

    row: PublishedRow
    runs: tuple[str, ...]
    """Their names, one a seed."""
    ours: Mapping[str, Interval]
    """Means over the runs, ``"t2v/R@1"`` and so on; the interval is over the test's videos, NaN without ranks."""
    reasons: tuple[str, ...]
    """Why the two are not comparable: what is not as published in any of the runs. Empty: nothing known."""
    notes: tuple[str, ...]
    """What to know besides, such as why there is no interval."""

    def difference(self, key: str) -> Interval | None:
        """Ours less the published figure, with the interval of ours: nothing is known of the published one's.

        None where the figure was not published or not measured.
        """
        theirs, ours = self.row.figures.get(key), self.ours.get(key)
        if theirs is None or ours is None or math.isnan(ours.value):
            return None
        return Interval(ours.value - theirs, ours.low - theirs, ours.high - theirs)


def repeats(row: PublishedRow, run: FoundRun) -> bool:
    """Whether a run is of what a row is called by; a zero-shot run repeats no trained row."""
    config, rule = run.config, run.results["selection"]["rule"]
    if config is None or rule == "zero-shot" or run.results["dataset"] != row.experiment["dataset"]:
        return False
    if any(name in row.settings and effective(config, name) != row.settings[name] for name in _SAME):
        return False
    if any(name in row.options and effective(config, name) != row.options[name] for name in _TOKENS):
        return False
    # A downloaded folder is the same backbone under another name: the experiment file says what it is meant to be.
    if row.experiment["backbone"] != effective(config, "experiment.backbone"):
        backbone = "model.backbone"
        if effective(config, backbone) != row.settings[backbone]:
            return False
    recipe = "model.optimizer.recipe"
    return rule == "given" or effective(config, recipe) == row.settings[recipe]


def repetitions(
    rows: Iterable[PublishedRow],
    runs: pd.DataFrame,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[tuple[str, int], list[Repetition]]:
    """For every published row the runs that repeat it.

    Args:
        rows: the published ones.
        runs: of :func:`centerclip_pl.runs.read_runs`; any datasets and protocols.
        confidence: of the intervals over the test's videos.
        resamples: of these.
        seed: of the resampling.

    Returns:
        By table and number of the row, all rows, in their order: a list, empty where nothing was run; the one with the
        fewest reasons against it first.
    """
    rows = list(rows)
    datasets = {row.experiment["dataset"] for row in rows}
    groups = []
    for group in setting_groups(runs[runs["dataset"].isin(datasets)]):
        kept, notes = drop_repeated_seeds(group)
        groups.append((kept, [read_run(name) for name in kept["run"]], notes))
    options = {"confidence": confidence, "resamples": resamples, "seed": seed}
    found: dict[tuple[str, int], list[Repetition]] = {}
    for row in rows:
        here = [
            _repetition(row, kept, members, notes, options)
            for kept, members, notes in groups
            if repeats(row, members[0])
        ]
        found[row.table, row.number] = sorted(here, key=lambda repetition: len(repetition.reasons))
    return found


def _repetition(
    row: PublishedRow,
    kept: pd.DataFrame,
    members: Sequence[FoundRun],
    notes: Sequence[str],
    options: Mapping[str, float],
) -> Repetition:
    reasons: dict[str, None] = {}
    remarks = dict.fromkeys(notes)
    for member in members:
        config = member.config or {}
        model = config.get("model")
        compared = compare(
            row,
            member.results,
            member.config,
            architecture=architecture_of(model.get("backbone") if isinstance(model, Mapping) else None),
            training_memory_mb=training_memory(Path(member.name) / "metrics.csv"),
        )
        reasons |= dict.fromkeys(compared.reasons)
        remarks |= dict.fromkeys(compared.notes)
    ours = {
        key: Interval(float(kept[key].mean()) if kept[key].notna().all() else math.nan, math.nan, math.nan)
        for key in KEYS
        if key in kept.columns
    }
    names = [str(name) for name in kept["run"]]
    try:
        intervals = query_intervals(
            [read_run_ranks(name) for name in names],
            confidence=options["confidence"],
            resamples=int(options["resamples"]),
            seed=int(options["seed"]),
            names=names,
        )
        unlike = unlike_metrics(kept, {name: interval.value for name, interval in intervals.items()})
        if unlike is None:
            ours |= {key: intervals[key] for key in ours if key in intervals}
        else:
            remarks[f"no interval over videos: {unlike}"] = None
    except DataError as error:
        remarks[f"no interval over videos: {error.problem}"] = None
    if len(members) == 1:
        remarks["one seed: how much another training would differ is not known"] = None
    return Repetition(row, tuple(names), ours, tuple(reasons), tuple(remarks))


def published_table(
    rows: Iterable[PublishedRow], found: Mapping[tuple[str, int], Sequence[Repetition]], key: str = "t2v/R@1"
) -> pd.DataFrame:
    """Every published row with the best comparable runs of it, as a table.

    Args:
        rows: the published ones.
        found: of :func:`repetitions`.
        key: the figure.

    Returns:
        One row a published row: ``table``, ``row``, ``name``, ``published`` (NaN where it was not), ``ours``, ``low``,
        ``high``, ``difference`` (NaN where nothing was run), ``seeds`` (0: not run), ``settings`` (how many ways the
        row was run; the first is shown), ``comparable``.
    """
    lines = []
    for row in rows:
        here = found[row.table, row.number]
        first = here[0] if here else None
        ours = first.ours.get(key) if first else None
        interval = ours or Interval(math.nan, math.nan, math.nan)
        difference = first.difference(key) if first else None
        lines.append(
            {
                "table": row.table,
                "row": row.number,
                "name": row.name,
                "published": row.figures.get(key, math.nan),
                "ours": interval.value,
                "low": interval.low,
                "high": interval.high,
                "difference": math.nan if difference is None else difference.value,
                "seeds": len(first.runs) if first else 0,
                "settings": len(here),
                "comparable": bool(first is not None and not first.reasons),
            }
        )
    return pd.DataFrame(lines)
