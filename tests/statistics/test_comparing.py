from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.runs import read_run_ranks, read_runs
from centerclip_pl.statistics import Comparison, compare
from centerclip_pl.statistics.cost import compare_costs
from centerclip_pl.statistics.verdict import more_is_better, say_p, unit, verdict_of

WriteRun = Callable[..., Path]
Compare = Callable[..., Comparison]


@pytest.fixture
def sides(tmp_path: Path, write_run: WriteRun) -> Compare:
    """Writes runs for A and B, each a list of options of ``write_run``, and compares them."""

    def do(a: list[Mapping[str, Any]], b: list[Mapping[str, Any]], **options: Any) -> Comparison:
        for side, each in (("a", a), ("b", b)):
            for n, given in enumerate(each):
                write_run(tmp_path / side / str(n), **{"queries": 60, "seed": n, **given})
        runs = read_runs([tmp_path / "a", tmp_path / "b"])
        is_a = runs["run"].map(lambda run: Path(run).parent.name == "a")
        return compare(runs[is_a], runs[~is_a], **{"resamples": 400, **options})

    return do


def test_one_run_each_is_a_statement_about_these_models(sides: Compare) -> None:
    found = sides([{"skill": 0.5}], [{"skill": 0.9, "method": "baseline"}])
    assert found.verdict == "B is better"
    assert not found.of_methods
    text = found.sentences()
    assert text.startswith("B is better by ")
    assert "holds for these two trained models on other videos, not for the methods" in text
    assert found.notes[0] == "A and B have one seed each: nothing is known about other trainings"
    main = found.main
    ranks = [read_run_ranks(side.runs[0]) for side in (found.a, found.b)]
    hits = [(each.loc[each["direction"] == "t2v", "rank"] <= 1).to_numpy() for each in ranks]
    assert main.mcnemar is not None
    assert (main.mcnemar.only_a, main.mcnemar.only_b) == (sum(hits[0] & ~hits[1]), sum(hits[1] & ~hits[0]))
    assert main.difference.value == pytest.approx(100 * (hits[1].mean() - hits[0].mean()))
    assert main.difference.low < main.difference.value < main.difference.high
    assert main.difference.p == main.p_videos
    assert math.isnan(main.a.std)


def test_the_paired_interval_is_that_of_differences(sides: Compare) -> None:
    found = sides([{"skill": 0.6}], [{"skill": 0.8, "method": "baseline"}], resamples=6000)
    ranks = [read_run_ranks(side.runs[0]) for side in (found.a, found.b)]
    each = [frame.loc[frame["direction"] == "t2v", "rank"].to_numpy() for frame in ranks]
    peer = stats.bootstrap(
        (each[1] - each[0],), np.mean, n_resamples=6000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    difference = next(metric for metric in found.metrics if metric.name == "t2v/MnR").difference
    assert (difference.low, difference.high) == pytest.approx((peer.low, peer.high), abs=0.1 * (peer.high - peer.low))
    # pairing matters: the models share the difficulty of the queries
    apart = sum(np.var(one) / len(one) for one in each) ** 0.5 * 2 * 1.96
    assert difference.high - difference.low < 0.8 * apart


def test_several_seeds_are_a_statement_about_the_methods(sides: Compare) -> None:
    skills = (0.5, 0.52, 0.55)
    found = sides([{"skill": s} for s in skills], [{"skill": s + 0.3, "method": "baseline"} for s in skills])
    assert found.verdict == "B is better"
    assert found.of_methods
    assert found.sentences().endswith("This counts other videos and other seeds (3 of A, 3 of B).")
    assert found.main.mcnemar is None  # not one hit or miss a query
    assert set(found.main.by_seed) == {0, 1, 2}
    assert np.mean(list(found.main.by_seed.values())) == pytest.approx(found.main.difference.value)
    assert found.main.p_videos is not None
    assert found.main.p_videos < 0.01
    assert any("estimated from 3 and 3" in note for note in found.notes)


def test_seeds_that_scatter_widen_the_interval(sides: Compare) -> None:
    a, b = [0.4, 0.6, 0.8], [0.5, 0.7, 0.9]
    size = {"queries": 200}
    found = sides([{"skill": s, **size} for s in a], [{"skill": s, "method": "baseline", **size} for s in b])
    assert found.verdict == "no difference can be told"
    assert found.main.p_videos is not None
    assert found.main.p_videos < 0.05 < (found.main.difference.p or 0)  # these six models do differ on other videos
    assert found.sentences().startswith("No difference can be told: t2v/R@1 is ")


def test_one_side_with_one_seed_invents_no_interval_over_seeds(sides: Compare) -> None:
    found = sides([{"skill": 0.5}], [{"skill": 0.9, "method": "baseline"}] * 2)
    assert not found.of_methods
    assert "these trained models" in found.sentences()
    assert "A has one seed: nothing is known about other trainings" in found.notes


def test_lower_ranks_are_better(sides: Compare) -> None:
    found = sides([{"skill": 0.9}], [{"skill": 0.5, "method": "baseline"}], metric="v2t/MnR")
    assert found.metric == "v2t/MnR"
    assert found.main.difference.value > 0
    assert found.verdict == "A is better"
    assert found.main.p_wilcoxon is not None
    assert found.main.p_wilcoxon < 0.001


def test_captions_of_a_video_stay_together(sides: Compare) -> None:
    found = sides(
        [{"skill": 0.5, "captions_per_video": 4}], [{"skill": 0.8, "captions_per_video": 4, "method": "baseline"}]
    )
    assert (found.texts, found.videos) == (240, 60)
    assert found.main.mcnemar is None  # it would take the captions of a video for independent
    v2t = next(each for each in found.metrics if each.name == "v2t/R@1")
    assert v2t.mcnemar is not None


def test_swapping_the_sides_swaps_the_verdict(sides: Compare) -> None:
    found = sides([{"skill": 0.5}, {"skill": 0.55}], [{"skill": 0.8, "method": "baseline"}] * 2)
    runs = read_runs([Path(side.runs[0]).parent for side in (found.a, found.b)])
    is_a = runs["run"].isin(found.a.runs)
    back = compare(runs[~is_a], runs[is_a], resamples=400)
    assert (found.verdict, back.verdict) == ("B is better", "A is better")
    for one, other in zip(found.metrics, back.metrics, strict=True):
        assert one.difference.value == -other.difference.value
        assert one.difference.low == pytest.approx(-other.difference.high)


def test_the_same_run_twice(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a", queries=20)
    runs = read_runs(tmp_path)
    found = compare(runs, runs, resamples=200)
    assert found.verdict == "A and B are the same runs"
    assert "nothing to compare" in found.sentences()


def test_a_run_on_both_sides(tmp_path: Path, write_run: WriteRun) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), queries=20, seed=seed)
    runs = read_runs(tmp_path)
    with pytest.raises(DataError, match="1 of the runs are in A and in B"):
        compare(runs, runs[:1], resamples=200)


def test_a_copy_is_noticed(sides: Compare) -> None:
    found = sides([{}], [{"method": "baseline"}])  # the fabricated ranks depend on skill and seed alone
    assert found.verdict == "no difference can be told"
    assert any("give every query the same rank" in note for note in found.notes)


def test_mixed_settings_are_listed(sides: Compare) -> None:
    with pytest.raises(
        DataError, match=r"A mixes 2 settings: .*segments=4.* \(1 run\).*segments=2.* \(2 runs\)"
    ) as error:
        sides([{"created": "1"}, {"segments": 2}, {"segments": 2}], [{"method": "baseline"}])
    assert error.value.next_step is not None
    assert "--a" in error.value.next_step


def test_other_queries_and_protocols_are_refused(sides: Compare) -> None:
    with pytest.raises(DataError, match=r"different queries: 0 in the first alone, 2 in the second alone, 120 in both"):
        sides([{}], [{"queries": 61}])
    with pytest.raises(DataError, match=r"different protocols[\s\S]*--a and --b"):
        sides([{}], [{"protocol": "demo-100"}])


def test_ranks_are_needed_and_have_to_fit(sides: Compare, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ranks\.parquet: there is no such file"):
        sides([{}], [{"ranks": False, "method": "baseline"}])
    found = sides([{"skill": 0.2}], [{"skill": 0.9, "method": "baseline"}])
    shutil.copy(Path(found.b.runs[0]) / "ranks.parquet", Path(found.a.runs[0]) / "ranks.parquet")
    runs = read_runs(tmp_path)
    with pytest.raises(DataError, match="are not of one test"):
        compare(runs[runs["run"] == found.a.runs[0]], runs[runs["run"] == found.b.runs[0]], resamples=200)


def test_unknown_metric(sides: Compare) -> None:
    with pytest.raises(ConfigError, match=r"'t2v/R@2'") as error:
        sides([{}], [{"method": "baseline"}], metric="t2v/R@2")
    assert "did you mean t2v/R@" in str(error.value)


def test_metrics_without_ranks_stand_without_an_interval(tmp_path: Path, write_run: WriteRun) -> None:
    for n, method in enumerate(("kmedoids", "baseline")):
        write_run(tmp_path / method, method=method, queries=20, skill=0.5 + 0.3 * n)
    runs = read_runs(tmp_path).assign(**{"t2v_order/R@1": [30.0, 40.0]})
    found = compare(runs[runs["method"] == "kmedoids"], runs[runs["method"] == "baseline"], resamples=200)
    order = next(each for each in found.metrics if each.name == "t2v_order/R@1")
    assert abs(order.difference.value) == 10
    assert math.isnan(order.difference.low)
    assert order.verdict == "no difference can be told"


def test_notes_about_how_runs_were_chosen_and_tested(sides: Compare) -> None:
    found = sides(
        [{"selection": {"selected_on": "test"}, "queries": 40}],
        [{"selection": {"rule": "last", "selected_on": None}, "epochs": 5, "queries": 40}],
    )
    notes = " | ".join(found.notes)
    assert "chosen by different rules: A best; B last" in notes
    assert "chosen on different splits: A test; B none" in notes
    assert "checkpoint of A was chosen on the test set" in notes
    assert "number of epochs: A 2; B 5" in notes
    assert "40 test videos only" in notes


def test_missing_videos_and_partial_tests_are_noted(tmp_path: Path, write_run: WriteRun) -> None:
    for method in ("kmedoids", "baseline"):
        write_run(tmp_path / method, method=method, queries=60, protocol="demo-200 (partial)")
    runs = read_runs(tmp_path).assign(missing_videos=3, broken_videos=1, published_videos=64.0)
    found = compare(runs[:1], runs[1:], resamples=200)
    assert "the test is partial: some of its batches were left out" in found.notes
    assert "A was tested without 4 videos of the split that are missing or broken" in found.notes
    assert "the test has 60 videos, the published one 64" in found.notes


def test_the_same_options_are_noted(sides: Compare) -> None:
    found = sides([{"seed": 0}], [{"seed": 1}])
    assert found.notes[0].startswith("A and B have the same options")


def test_repeated_seeds_count_once_and_are_noted(sides: Compare) -> None:
    found = sides([{"seed": 0, "created": "1"}, {"seed": 0, "created": "2"}], [{"method": "baseline"}])
    assert found.a.seeds == [0]
    assert any(note.startswith("A, seed 0: 2 runs of one setting") for note in found.notes)


def test_everything_as_json(sides: Compare) -> None:
    found = sides([{"skill": 0.5}], [{"skill": 0.9, "method": "baseline"}])
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["verdict"] == "B is better"
    assert content["summary"] == found.sentences()
    assert content["metrics"][0]["name"] == "t2v/R@1"
    assert content["metrics"][0]["a"]["std"] is None
    assert content["metrics"][0]["difference"]["low"] == found.main.difference.low
    assert content["costs"][0]["ratio"] == pytest.approx(found.costs[0].b / found.costs[0].a)


def test_costs_compare_where_they_were_measured_alike() -> None:
    a = pd.DataFrame(
        {"gmacs": [2.0, 4, 3], "encode_ms": 10.0, "clustering_ms": 0.0, "memory_mb": 100.0}
        | {"memory_kind": "process resident set", "device": "cpu", "dtype": "float32", "threads": 2.0}
    )
    b = a.assign(gmacs=6.0, encode_ms=15.0, clustering_ms=3.0)
    found = {each.name: each for each in compare_costs(a, b)}
    assert (found["gmacs"].a, found["gmacs"].b, found["gmacs"].ratio) == (3, 6, 2)
    assert found["encode_ms"].ratio == 1.5
    assert found["clustering_ms"].ratio is None  # nothing beside something
    threads = {each.name: each for each in compare_costs(a, b.assign(threads=4.0))}
    assert threads["encode_ms"].ratio is None
    assert threads["encode_ms"].reason == "other threads: 2 / 4"
    assert threads["gmacs"].ratio == 2
    device = {each.name: each for each in compare_costs(a, b.assign(device=["cpu", "GPU", "GPU"]))}
    assert device["memory_mb"].reason == "other device: cpu / GPU and cpu"
    assert compare_costs(a, b.assign(gmacs=float("nan")))[0].name == "encode_ms"


def test_words() -> None:
    assert more_is_better("dual_softmax/t2v/R@10")
    assert not more_is_better("t2v/MdR")
    assert verdict_of("t2v/R@1", 0.1, 2) == "B is better"
    assert verdict_of("t2v/R@1", -2, -0.1) == "A is better"
    assert verdict_of("t2v/MnR", -2, -0.1) == "B is better"
    assert verdict_of("t2v/MnR", 0.1, 2) == "A is better"
    for low, high in ((-1, 1), (0, 2), (math.nan, math.nan)):
        assert verdict_of("t2v/R@1", low, high) == "no difference can be told"
    assert unit("t2v/R@1", -4.72) == "4.7 points"
    assert unit("t2v/MdR", 1.02) == "1.0 rank"
    assert (say_p(None), say_p(0.0123), say_p(0.0004)) == ("", "p = 0.012", "p < 0.001")
