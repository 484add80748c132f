from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.runs import read_run_ranks, read_runs
from centerclip_pl.statistics import query_intervals, setting_columns, summarise, varying_columns
from centerclip_pl.statistics.settings import describe_setting, setting_groups

WriteRun = Callable[..., Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (2, 0, 1):
        write_run(folder / f"k{seed}", seed=seed, skill=0.6 + 0.02 * seed, queries=60, gmacs=0.3 + 0.1 * seed)
    write_run(folder / "base", method="baseline", skill=0.8, queries=60)
    write_run(folder / "pool", method="pooling", skill=0.5, queries=60, ranks=False)
    write_run(folder / "rate", skill=0.7, queries=60, options={"model.optimizer.learning_rate": 1e-3})
    return read_runs(folder)


def _row(summary: pd.DataFrame, name: str) -> pd.Series:
    return next(row for _, row in summary.iterrows() if any(Path(run).name == name for run in row["runs"]))


def test_one_row_a_setting(runs: pd.DataFrame) -> None:
    summary = summarise(runs, resamples=200)
    assert len(summary) == 4
    row = _row(summary, "k0")
    assert row["seeds"] == [0, 1, 2]
    assert [Path(run).name for run in row["runs"]] == ["k0", "k1", "k2"]
    assert row["n_seeds"] == 3
    assert (row["method"], row["segments"], row["clusters"]) == ("kmedoids", 4, 48)
    values = [runs.loc[runs["run"] == run, "t2v/R@1"].item() for run in row["runs"]]
    assert row["t2v/R@1"] == pytest.approx(sum(values) / 3)
    assert row["t2v/R@1 std"] == pytest.approx(math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2))
    assert row["gmacs"] == pytest.approx(0.4)
    assert row["device"] == "cpu"
    assert row["videos"] == 60
    assert _row(summary, "rate")["model.optimizer.learning_rate"] == 1e-3


def test_intervals_are_of_the_mean_over_seeds(runs: pd.DataFrame) -> None:
    row = _row(summarise(runs, resamples=300, confidence=0.9, seed=5), "k1")
    found = query_intervals([read_run_ranks(run) for run in row["runs"]], resamples=300, confidence=0.9, seed=5)
    for name, interval in found.items():
        assert (row[name], row[f"{name} low"], row[f"{name} high"]) == pytest.approx(
            (interval.value, interval.low, interval.high)
        )
    assert row["t2v/R@1 low"] < row["t2v/R@1"] < row["t2v/R@1 high"]


def test_one_seed_and_no_ranks(runs: pd.DataFrame) -> None:
    summary = summarise(runs, resamples=200)
    row = _row(summary, "pool")
    assert row["n_seeds"] == 1
    assert math.isnan(row["t2v/R@1 std"])
    assert math.isnan(row["t2v/R@1 low"])
    assert not math.isnan(row["t2v/R@1"])
    (note,) = summary.attrs["notes"]
    assert note.startswith(
        "method=pooling, after_block=2, segments=4, model.optimizer.learning_rate=0.0005: no interval"
    )
    assert "ranks.parquet: there is no such file" in note


def test_the_order_of_the_runs_makes_no_difference(runs: pd.DataFrame) -> None:
    first = summarise(runs, resamples=200).set_index("method")
    second = summarise(runs.iloc[::-1], resamples=200).set_index("method")
    for method in ("baseline", "pooling"):
        pd.testing.assert_series_equal(first.loc[method], second.loc[method])


def test_a_repeated_seed_counts_once(tmp_path: Path, write_run: WriteRun) -> None:
    for name, seed, created in (("a", 0, "01"), ("b", 0, "02"), ("c", 1, "01")):
        write_run(tmp_path / name, seed=seed, queries=20, created=f"2026-01-{created}T00:00:00+00:00")
    summary = summarise(read_runs(tmp_path), resamples=200)
    assert [Path(run).name for run in summary.loc[0, "runs"]] == ["b", "c"]
    assert summary.loc[0, "n_seeds"] == 2
    (note,) = summary.attrs["notes"]
    assert note.startswith("seed 0: 2 runs of one setting; the newest counts")


def test_ranks_of_another_test_give_no_interval(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a", skill=0.3, queries=20)
    write_run(tmp_path / "b", skill=0.9, queries=20, method="baseline")
    shutil.copy(tmp_path / "b" / "ranks.parquet", tmp_path / "a" / "ranks.parquet")
    summary = summarise(read_runs(tmp_path), resamples=200)
    assert math.isnan(_row(summary, "a")["t2v/R@1 low"])
    assert not math.isnan(_row(summary, "b")["t2v/R@1 low"])
    assert any("ranks.parquet and results.json are not of one test" in note for note in summary.attrs["notes"])


def test_seeds_with_other_queries_give_no_interval(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a", seed=0, queries=20)
    write_run(tmp_path / "b", seed=1, queries=21, options={"data.test": 20})
    summary = summarise(read_runs(tmp_path), resamples=200)
    assert len(summary) == 1
    assert math.isnan(summary.loc[0, "t2v/R@1 low"])
    assert "different queries" in summary.attrs["notes"][0]


def test_metrics_of_part_of_the_queries_have_no_interval(runs: pd.DataFrame) -> None:
    known = runs.assign(**{"t2v_order/R@1": np.arange(len(runs), dtype=float)})
    row = _row(summarise(known, resamples=200), "k0")
    assert row["t2v_order/R@1"] == pytest.approx(known.loc[known["run"].isin(row["runs"]), "t2v_order/R@1"].mean())
    assert math.isnan(row["t2v_order/R@1 low"])


def test_post_processed_ranks_give_intervals(runs: pd.DataFrame) -> None:
    def read(run: str) -> pd.DataFrame:
        ranks = read_run_ranks(run)
        return ranks.assign(rank_dual_softmax=ranks["rank"])

    known = runs.assign(**{"dual_softmax/t2v/R@1": runs["t2v/R@1"]})
    row = _row(summarise(known, resamples=200, read_ranks=read), "k0")
    assert row["dual_softmax/t2v/R@1 low"] == row["t2v/R@1 low"] < row["t2v/R@1"]


def test_protocols_are_not_mixed(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a", queries=20)
    write_run(tmp_path / "b", queries=20, protocol="demo-200 (partial)")
    with pytest.raises(DataError, match=r"demo-200 \(partial\)"):
        summarise(read_runs(tmp_path))


def test_bad_arguments(runs: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="confidence is 2"):
        summarise(runs, confidence=2)
    with pytest.raises(DataError, match="no runs to summarise"):
        summarise(runs.iloc[:0])


def test_settings(runs: pd.DataFrame) -> None:
    columns = setting_columns(runs)
    assert {"method", "segments", "model.optimizer.learning_rate"} <= set(columns)
    assert not {"run", "seed", "t2v/R@1", "gmacs", "created", "device", "commit"} & set(columns)
    kmedoids = runs[runs["method"] == "kmedoids"]
    assert varying_columns(kmedoids) == ["model.optimizer.learning_rate"]
    assert sorted(len(group) for group in setting_groups(runs)) == [1, 1, 1, 3]
    assert describe_setting(kmedoids.iloc[0], ["method", "segments"]) == "method=kmedoids, segments=4"


def test_options_that_are_lists_or_absent_make_settings(runs: pd.DataFrame) -> None:
    options = pd.Series([[1, 2], [1, 2], None, float("nan"), [2], None], index=runs.index)
    alike = runs.assign(method="m", segments=1, after_block=1, clusters=1, option=options)
    alike = alike.drop(columns="model.optimizer.learning_rate")
    assert sorted(len(group) for group in setting_groups(alike)) == [1, 2, 3]


def test_settings_with_the_same_hits_have_the_same_mean(tmp_path: Path, write_run: WriteRun) -> None:
    for segments, recalls in ((2, (50.1, 49.3, 50.6)), (4, (50.2, 50.3, 49.5))):
        for seed, recall in enumerate(recalls):
            run = write_run(tmp_path / f"{segments}-{seed}", segments=segments, seed=seed, queries=20, ranks=False)
            results = json.loads((run / "results.json").read_text())
            results["metrics"]["test/t2v/R@1"] = float(np.float32(recall))  # as torchmetrics computes it
            (run / "results.json").write_text(json.dumps(results))
    summary = summarise(read_runs(tmp_path), resamples=100)
    assert summary["t2v/R@1"].tolist() == [50.0, 50.0]
