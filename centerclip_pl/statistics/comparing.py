"""Runs of two settings -> `Comparison`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
import pandas as pd

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.statistics.comparison import Comparison, MetricComparison, Side
from centerclip_pl.statistics.comparison_notes import notes_of
from centerclip_pl.statistics.cost import compare_costs
from centerclip_pl.statistics.intervals import CONFIDENCE, RESAMPLES, check_options
from centerclip_pl.statistics.metric_tests import MetricTests, seeds_of
from centerclip_pl.statistics.queries import Queries, align
from centerclip_pl.statistics.seeds import drop_repeated_seeds
from centerclip_pl.statistics.settings import describe_setting, setting_groups, varying_columns
from centerclip_pl.statistics.summary import ReadRanks, ks_of, unlike_metrics

METRIC = "t2v/R@1"


def compare(
    a_runs: pd.DataFrame,
    b_runs: pd.DataFrame,
    *,
    metric: str = METRIC,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    read_ranks: ReadRanks | None = None,
) -> Comparison:
    """Compares two settings by the ranks of the same queries.

    Args:
        a_runs: rows of ``centerclip_pl.runs.read_runs``: the seeds of one setting.
        b_runs: of the other.
        metric: what the verdict is about; choose it before looking.
        confidence: of the intervals, in (0, 1).
        resamples: of videos and of sign flips.
        seed: of the resampling.
        read_ranks: as in :func:`centerclip_pl.statistics.summarise`.

    Raises:
        ConfigError: confidence, resamples or metric that cannot work.
        DataError: runs of several datasets, splits or protocols, of several settings in A or in B, of different
            queries, without ranks, or in A and in B.
    """
    from centerclip_pl.runs import one_protocol, read_run_ranks

    check_options(confidence, resamples)
    for side, runs in (("A", a_runs), ("B", b_runs)):
        if not len(runs):
            raise DataError(f"{side} has no runs", "check the folder, and the filter if there is one")
    both = pd.concat([a_runs.assign(side="A"), b_runs.assign(side="B")], ignore_index=True)
    try:
        one_protocol(both)
    except DataError as error:
        raise DataError(
            error.problem, "pick runs of one of them for A and for B (a folder each, or --a and --b)"
        ) from None
    a, repeated_a = _one_setting(both[both["side"] == "A"].drop(columns="side"), "A")
    b, repeated_b = _one_setting(both[both["side"] == "B"].drop(columns="side"), "B")
    repeated = [*(f"A, {note}" for note in repeated_a), *(f"B, {note}" for note in repeated_b)]
    runs = pd.concat([a, b], ignore_index=True)
    names = [str(run) for run in runs["run"]]
    same, shared = set(a["run"]) == set(b["run"]), sorted(set(a["run"]) & set(b["run"]))
    if shared and not same:
        raise DataError(
            f"{len(shared)} of the runs are in A and in B: {', '.join(map(str, shared[:3]))}",
            "pick the runs so that each is on one side",
        )
    of_methods = len(a) > 1 and len(b) > 1
    columns = varying_columns(runs)
    sides = [
        Side(
            describe_setting(each.iloc[0], columns) if columns else f"{name}'s runs",
            each["run"].tolist(),
            seeds_of(each),
        )
        for name, each in (("A", a), ("B", b))
    ]
    read = read_run_ranks if read_ranks is None else read_ranks
    families = align([read(name) for name in names], names)
    tests = MetricTests(a, b, ks_of(runs), of_methods, confidence, resamples, seed)
    metrics = [each for family, queries in families.items() for each in tests.of(family, queries)]
    _check_metrics(runs, metrics, len(a))
    _check_metric(metric, [each.name for each in metrics])
    metrics += tests.without_ranks({each.name for each in metrics})
    first = a.iloc[0]
    identical = all(_identical(queries, len(a)) for queries in families.values())
    return Comparison(
        dataset=str(first["dataset"]),
        split=str(first["split"]),
        protocol=str(first["protocol"]),
        videos=int(first["videos"]),
        texts=int(first["texts"]),
        a=sides[0],
        b=sides[1],
        metric=metric,
        metrics=metrics,
        costs=compare_costs(a, b),
        notes=[*notes_of(a, b, same_options=not columns, identical_ranks=identical and not same), *repeated],
        confidence=confidence,
        resamples=resamples,
        of_methods=of_methods,
        same_runs=same,
    )


def _one_setting(runs: pd.DataFrame, side: str) -> tuple[pd.DataFrame, list[str]]:
    groups = setting_groups(runs)
    if len(groups) > 1:
        columns = varying_columns(runs)
        found = "; ".join(
            f"{describe_setting(each.iloc[0], columns)} ({len(each)} run{'s' if len(each) > 1 else ''})"
            for each in groups[:8]
        )
        more = f"; and {len(groups) - 8} more" if len(groups) > 8 else ""
        raise DataError(
            f"{side} mixes {len(groups)} settings: {found}{more}",
            f"pick one: --{side.lower()} \"method == '...' and segments == ...\" (columns: `centerclip runs`)",
        )
    kept, notes = drop_repeated_seeds(runs)
    return kept.sort_values("seed", kind="stable", ignore_index=True), notes


def _identical(queries: Queries, count: int) -> bool:
    """Whether some run of A ranks every query as some run of B does."""
    return any(np.array_equal(one, other) for one in queries.ranks[:count] for other in queries.ranks[count:])


def _check_metrics(runs: pd.DataFrame, metrics: Sequence[MetricComparison], count: int) -> None:
    for rows, side in ((runs[:count], "a"), (runs[count:], "b")):
        unlike = unlike_metrics(rows, {each.name: getattr(each, side).mean for each in metrics})
        if unlike:
            raise DataError(unlike, "test the run again: `centerclip eval --checkpoint=...`")


def _check_metric(metric: str, known: Sequence[str]) -> None:
    if metric not in known:
        near = get_close_matches(metric, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"there are no ranks for the metric {metric!r}, so no verdict about it",
            f"{hint}ranks are there for {', '.join(known)}",
        )
