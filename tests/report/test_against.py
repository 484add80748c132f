from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.report.against import Against, compare_with, comparison_table
from centerclip_pl.runs import read_run_ranks, read_runs
from centerclip_pl.statistics import compare, summarise

WriteRun = Callable[..., Path]


def compared(folder: Path, metric: str = "t2v/R@1") -> tuple[dict[str, Against], pd.DataFrame]:
    runs = read_runs(folder)
    summary = summarise(runs, resamples=300)
    baseline = summary.index[summary["method"] == "baseline"][0]
    found = compare_with(int(baseline), runs, summary, metric, 0.95, 400)
    return {summary["method"][one.setting]: one for one in found}, summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> Path:
    """A baseline, one much worse, one much better, one alike."""
    folder = tmp_path_factory.mktemp("against")
    for method, skill in (("baseline", 0.6), ("pooling", 0.3), ("kmedoids", 0.9), ("spectral", 0.602)):
        for seed in (0, 1, 2):
            write_run(folder / f"{method}-{seed}", method=method, skill=skill, seed=seed, queries=150)
    return folder


def test_verdicts_and_differences(folder: Path) -> None:
    found, _ = compared(folder)
    assert {method: one.verdict for method, one in found.items()} == {
        "pooling": "worse",
        "kmedoids": "better",
        "spectral": "unknown",
    }
    for method, one in found.items():
        shares = {}
        for name in (method, "baseline"):  # from the ranks, by hand
            hits = [rank for s in (0, 1, 2) for rank in _t2v(folder / f"{name}-{s}")]
            shares[name] = 100 * sum(rank <= 1 for rank in hits) / len(hits)
        assert one.difference == pytest.approx(shares[method] - shares["baseline"])
        assert one.low <= one.difference <= one.high
        assert one.over_seeds


def test_p_is_corrected_step_by_step(folder: Path) -> None:
    found, _ = compared(folder)
    ordered = sorted(found.values(), key=lambda one: one.p)
    largest = 0.0
    for place, one in enumerate(ordered):  # Holm: the smallest p times 3, the next times 2, the last times 1
        largest = max(largest, min(1.0, one.p * (3 - place)))
        assert one.p_holm == pytest.approx(largest)


def test_a_lower_mean_rank_is_better(folder: Path) -> None:
    found, _ = compared(folder, "t2v/MnR")
    assert found["kmedoids"].difference < 0
    assert found["kmedoids"].verdict == "better"
    assert found["pooling"].verdict == "worse"


def test_one_seed_is_marked_and_missing_ranks_are_said(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a", method="baseline", skill=0.6)
    write_run(tmp_path / "b", method="pooling", skill=0.3)
    write_run(tmp_path / "c", method="sparse", skill=0.3, ranks=False)
    found, summary = compared(tmp_path)
    assert found["pooling"].verdict == "worse"
    assert not found["pooling"].over_seeds
    assert found["sparse"].verdict is None
    assert "ranks.parquet" in found["sparse"].why
    names = list(summary["method"])
    table = comparison_table(list(found.values()), names, "baseline", "t2v/R@1", 0.95)
    assert [row.cells[0].text for row in table.rows] == ["pooling", "sparse"]
    assert table.rows[0].cells[4].text == "worse"
    assert table.rows[1].cells[4].text == "not compared"


def test_median_ranks_of_one_seed_have_no_test_and_are_judged_by_wider_intervals(
    tmp_path: Path, write_run: WriteRun
) -> None:
    for method, skill in (("baseline", 0.6), ("pooling", 0.1), ("sparse", 0.59)):
        write_run(tmp_path / method, method=method, skill=skill, queries=150)
    found, summary = compared(tmp_path, "t2v/MdR")
    assert {method: one.verdict for method, one in found.items()} == {"pooling": "worse", "sparse": "unknown"}
    assert all(math.isnan(one.p) and math.isnan(one.p_holm) for one in found.values())
    both = [runs for _, runs in read_runs(tmp_path).groupby("method")]  # by name: baseline, pooling, sparse
    alone = compare(both[0], both[1], metric="t2v/MdR", confidence=1 - 0.05 / 2, resamples=400).main.difference
    assert (found["pooling"].low, found["pooling"].high) == (alone.low, alone.high)
    table = comparison_table(list(found.values()), list(summary["method"]), "baseline", "t2v/MdR", 0.95)
    assert "Bonferroni" in table.notes[0]


def test_the_largest_gain_is_first_whether_more_or_less_is_better(folder: Path) -> None:
    for metric in ("t2v/R@1", "t2v/MnR"):
        found, summary = compared(folder, metric)
        table = comparison_table(list(found.values()), list(summary["method"]), "baseline", metric, 0.95)
        assert [row.cells[0].text for row in table.rows] == ["kmedoids", "spectral", "pooling"]
        assert table.columns[1].falling == (metric == "t2v/R@1")


def test_many_comparisons_take_enough_flips_to_tell_a_large_difference(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "baseline", method="baseline", skill=0.9, queries=60)
    for segments in range(2, 10):  # 8 / (100 + 1) is above 0.05: no p of 100 flips would survive the correction
        write_run(tmp_path / str(segments), segments=segments, skill=0.2, queries=60)
    runs = read_runs(tmp_path)
    summary = summarise(runs, resamples=100)
    baseline = int(summary.index[summary["method"] == "baseline"][0])
    found = compare_with(baseline, runs, summary, "t2v/R@1", 0.95, 100)
    assert [one.verdict for one in found] == ["worse"] * 8


def _t2v(run: Path) -> list[float]:
    ranks = read_run_ranks(run)
    return list(ranks.loc[ranks["direction"] == "t2v", "rank"])
