"""Which runs repeat which published row, and what is said about them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.plots.published_words import not_run, reasons_in_words, side_by_side, verdict_in_words
from centerclip_pl.runs import read_run_ranks, read_runs
from centerclip_pl.runs.one_run import newest_checkpoint, read_run
from centerclip_pl.statistics import query_intervals
from centerclip_pl.statistics.against_published import Repetition, published_table, repeats, repetitions
from centerclip_pl.training.comparison import compare
from centerclip_pl.training.published import PublishedRow, read_published

TABLES = read_published(Path(__file__).parents[2] / "experiments" / "papers")
ROWS = [row for rows in TABLES.values() for row in rows]
WriteRun = Callable[..., Path]
MSRVTT = {
    "dataset": "msrvtt",
    "protocol": "msrvtt-1ka",
    "backbone": "vit-b32",
    "clusters": 49,
    "after_block": 6,
    "queries": 100,
    "skill": 0.43,
}


def row(table: str, **what: Any) -> PublishedRow:
    (found,) = [r for r in TABLES[table] if all(getattr(r, name) == value for name, value in what.items())]
    return found


KMEDOIDS = row("msrvtt-9k", method="kmedoids", segments=4, backbone="ViT-B/32")
BASELINE = row("msrvtt-9k", method="baseline-meanP", backbone="ViT-B/32")
CLIP4CLIP = row("msrvtt-9k", method="clip4clip-meanP")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(folder / f"k{seed}", **MSRVTT, seed=seed)
    # Further from the published settings: another number of epochs.
    write_run(folder / "long", **MSRVTT, seed=0, epochs=50)
    write_run(folder / "three", **MSRVTT | {"clusters": 48})
    write_run(folder / "base", **MSRVTT, method="baseline", ranks=False)
    recipe = {"model.optimizer.recipe": "clip4clip", "model.optimizer.learning_rate": 1e-4}
    write_run(folder / "meanP", **MSRVTT, method="baseline", options=recipe)
    write_run(folder / "demo")
    zero_shot = {"rule": "zero-shot", "selected_on": None, "epoch": None, "step": None, "path": None, "value": None}
    write_run(folder / "zero", **MSRVTT, selection=zero_shot)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[tuple[str, int], list[Repetition]]:
    return repetitions(ROWS, read_runs(folder), resamples=300)


def names(repetition: Repetition) -> list[str]:
    return [Path(run).name for run in repetition.runs]


def test_every_row_is_there_and_the_runs_are_with_theirs(found: dict[tuple[str, int], list[Repetition]]) -> None:
    assert list(found) == [(r.table, r.number) for r in ROWS]
    belong = {key: sorted(names(each) for each in here) for key, here in found.items() if here}
    assert belong == {
        (KMEDOIDS.table, KMEDOIDS.number): [["k0", "k1"], ["long"]],
        (BASELINE.table, BASELINE.number): [["base"]],
        (CLIP4CLIP.table, CLIP4CLIP.number): [["meanP"]],
    }
    for here in found.values():
        counts = [len(each.reasons) for each in here]
        assert counts == sorted(counts)


def test_figures_differences_and_intervals(folder: Path, found: dict[tuple[str, int], list[Repetition]]) -> None:
    (both,) = [each for each in found[KMEDOIDS.table, KMEDOIDS.number] if len(each.runs) == 2]
    runs = read_runs(folder).set_index("run").loc[list(both.runs)]
    intervals = query_intervals([read_run_ranks(run) for run in both.runs], resamples=300)
    for key in ("t2v/R@1", "v2t/MnR"):
        assert both.ours[key].value == pytest.approx(runs[key].mean())
        assert (both.ours[key].low, both.ours[key].high) == (intervals[key].low, intervals[key].high)
        difference = both.difference(key)
        assert difference is not None
        assert difference.value == pytest.approx(runs[key].mean() - KMEDOIDS.figures[key])
        assert difference.high - difference.low == pytest.approx(intervals[key].high - intervals[key].low)
    assert both.difference("t2v/R@3") is None
    (base,) = found[BASELINE.table, BASELINE.number]
    assert math.isnan(base.ours["t2v/R@1"].low)
    assert base.difference("t2v/R@1") is not None
    assert any(note.startswith("no interval over videos") for note in base.notes)
    assert any(note.startswith("one seed") for note in base.notes)
    assert not any(note.startswith("one seed") for note in both.notes)


def test_every_reason_is_named(found: dict[tuple[str, int], list[Repetition]]) -> None:
    for here in found.values():
        for repetition in here:
            expected: dict[str, None] = {}
            for name in repetition.runs:
                run = read_run(name)
                expected |= dict.fromkeys(compare(repetition.row, run.results, run.config).reasons)
            assert set(repetition.reasons) == set(expected)
            assert any("test split has 100 videos" in reason for reason in repetition.reasons)
    (long,) = [each for each in found[KMEDOIDS.table, KMEDOIDS.number] if names(each) == ["long"]]
    assert "trainer.max_epochs is 50, published with 5" in long.reasons


def test_weights_from_elsewhere_need_no_recipe(tmp_path: Path, write_run: WriteRun) -> None:
    given = {"rule": "given", "selected_on": None, "epoch": None, "step": None, "value": None, "path": "theirs.ckpt"}
    run = read_run(write_run(tmp_path / "given", **MSRVTT, method="baseline", selection=given))
    assert [r.method for r in TABLES["msrvtt-9k"] if repeats(r, run)] == ["clip4clip-meanP", "baseline-meanP"]
    folder = {"experiment.backbone": None, "model.backbone": "openai/clip-vit-base-patch32"}
    assert repeats(BASELINE, read_run(write_run(tmp_path / "hub", **MSRVTT, method="baseline", options=folder)))
    other = {"experiment.backbone": None, "model.backbone": "weights/mine"}
    assert not repeats(BASELINE, read_run(write_run(tmp_path / "mine", **MSRVTT, method="baseline", options=other)))


def test_tables_and_words(folder: Path, found: dict[tuple[str, int], list[Repetition]]) -> None:
    rows = TABLES["msrvtt-9k"]
    table = published_table(rows, found)
    assert table["published"].tolist() == [r.figures["t2v/R@1"] for r in rows]
    run = table["seeds"] > 0
    assert run.sum() == 3
    assert table.loc[~run, ["ours", "low", "high", "difference"]].isna().all(axis=None)
    assert table.loc[run, "ours"].to_numpy() - table.loc[run, "published"].to_numpy() == pytest.approx(
        table.loc[run, "difference"].to_numpy()
    )
    assert not table["comparable"].any()
    absent = not_run(rows, found)
    assert len(absent) == len(rows) - 3
    assert f"centerclip reproduce msrvtt-9k --row {KMEDOIDS.number}" not in set(absent["command"])
    beside = side_by_side(rows, found)
    assert (beside["what"] == "difference").sum() == 4
    assert "ours (2 seeds)" in set(beside["what"])
    assert beside["what"].str.endswith("(not run)").sum() == len(absent)
    words = verdict_in_words(ROWS, found, read_runs(folder))
    assert words[0].startswith(f"3 of {len(ROWS)} published rows were run; none of them as published")
    assert len(words) == 4
    assert all("not comparable, for" in sentence for sentence in words[1:])
    parts = reasons_in_words(ROWS, found)
    assert len(parts) == 4
    assert sum(part.count("- not as published: ") for part in parts) == sum(
        len(each.reasons) for here in found.values() for each in here
    )


def test_of_the_demo_nothing_is_published(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "run")
    runs = read_runs(tmp_path)
    none = repetitions(ROWS, runs, resamples=300)
    assert not any(none.values())
    (sentence,) = verdict_in_words(ROWS, none, runs)
    assert sentence.startswith("No published row fits these 1 runs: they are of demo (demo-200)")
    assert len(not_run(ROWS, none)) == len(ROWS)


def test_the_newest_checkpoint(tmp_path: Path, write_run: WriteRun) -> None:
    for name, method, year in (("a", "kmedoids", 2024), ("b", "kmedoids", 2025), ("c", "pooling", 2026)):
        write_run(tmp_path / name, method=method, created=f"{year}-01-01T00:00:00+00:00")
    runs = read_runs(tmp_path)
    assert newest_checkpoint(runs) is None
    for name in "abc":
        (tmp_path / name / "checkpoints").mkdir()
    (tmp_path / "a/checkpoints/best.ckpt").touch()
    (tmp_path / "c/checkpoints/best.ckpt").touch()
    assert newest_checkpoint(runs) == tmp_path / "a/checkpoints/best.ckpt"
    (tmp_path / "b/checkpoints/best.ckpt").touch()
    assert newest_checkpoint(runs) == tmp_path / "b/checkpoints/best.ckpt"
    assert newest_checkpoint(runs, "pooling") == tmp_path / "c/checkpoints/best.ckpt"
