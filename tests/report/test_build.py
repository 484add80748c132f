from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.report import Options, Page, build_page
from centerclip_pl.runs import read_runs

WriteRun = Callable[..., Path]


def test_each_protocol_has_a_section_and_its_runs_alone(page: Page) -> None:
    assert [section.title for section in page.sections] == [
        "demo, test split, protocol demo-200",
        "msrvtt, test split, protocol msrvtt-1ka",
    ]
    assert [len(section.runs.rows) for section in page.sections] == [13, 2]
    assert dict(page.sections[0].facts)["Runs"] == "13 runs of 7 settings"
    assert dict(page.sections[0].facts)["Queries"] == "60 texts, 60 videos of 60 published"
    assert dict(page.sections[0].facts)["Seeds"] == "0 and 1"
    assert dict(page.sections[1].facts)["Checkpoint"] == "best on test and best on val"
    assert page.created == "01 January 2026, 08:00 UTC"


def test_figures_are_there_where_the_runs_have_them(page: Page) -> None:
    full, poor = ([picture.name for picture in section.pictures] for section in page.sections)
    assert full == [
        "figure-map-1",
        "figure-map-cost",
        "figure-pareto-gmacs",
        "figure-pareto-encode-ms",
        "figure-pareto-memory-mb",
        "figure-blocks",
        "figure-seeds",
        "figure-differences",
        "figure-recall-curve",
    ]
    assert poor == [name for name in full if "pareto" in name or "recall" in name]
    assert list(page.sections[0].left_out) == []


def test_what_is_left_out_names_the_sweep_that_brings_it(page: Page) -> None:
    steps = {item.title: item.next_step for item in page.sections[1].left_out}
    assert steps == {
        "Segments and clusters": "make sweep SWEEP=segments",
        "Where to cluster": "make sweep SWEEP=block",
        "Seeds": "make sweep SWEEP=seeds",
        "Differences from the baseline": "train with METHOD=baseline",
    }


def test_warnings_stand_in_their_section(page: Page) -> None:
    demo, msrvtt = (" ".join(section.caveats) for section in page.sections)
    assert "pooling 4 segments" in demo.replace(",", "")
    assert "one seed only" in demo
    assert "chose the checkpoint on the test split" not in demo
    assert "1 of 2 runs chose the checkpoint on the test split" in msrvtt
    assert "no interval over queries" in msrvtt


def test_the_page_says_what_was_asked_of_the_runs(runs: pd.DataFrame, runs_folder: Path) -> None:
    some = runs[runs["segments"] == 8]
    page = build_page(some, [str(runs_folder)], options=Options(resamples=100, baseline=None), where="segments == 8")
    assert dict(page.facts)["Only runs with"] == "segments == 8"
    assert any("none was asked for" in text for text in page.sections[0].findings)
    assert not any(table.name == "against" for table in page.sections[0].tables)
    assert page.title == "Text-video retrieval on demo"


def test_a_baseline_that_is_not_there_is_said(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a", queries=20)
    page = build_page(read_runs(tmp_path), ["a"], options=Options(resamples=100), now=datetime(2026, 1, 1, tzinfo=UTC))
    assert any("There is no baseline among these runs" in text for text in page.sections[0].findings)
    assert page.sections[0].findings[0].startswith("The one setting, kmedoids, has text to video R@1 ")


def test_a_baseline_must_be_one_setting(runs: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"picks \d settings") as caught:
        build_page(runs, ["x"], options=Options(resamples=100, baseline="method == 'kmedoids'"))
    assert "add to the condition" in str(caught.value)


def test_a_metric_that_no_run_has(runs: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="no run of demo, test split, protocol demo-200 has this metric") as caught:
        build_page(runs, ["x"], options=Options(resamples=100, metric="t2v/R@7"))
    assert "t2v/R@1" in str(caught.value)


def test_runs_left_out_are_listed(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "good", queries=20)
    write_run(tmp_path / "bad", queries=20)
    (tmp_path / "bad" / "results.json").write_text("{")
    write_run(tmp_path / "unfinished", queries=20)
    (tmp_path / "unfinished" / "results.json").unlink()
    page = build_page(read_runs(tmp_path, on_bad="skip"), [str(tmp_path)], options=Options(resamples=100))
    first, second = page.notes
    assert first.startswith("1 run could not be read and is left out: ")
    assert str(tmp_path / "bad") in first
    assert second.startswith("1 run has options but no results")
    assert str(tmp_path / "unfinished") in second


def test_post_processed_figures_have_a_table_of_their_own(runs: pd.DataFrame) -> None:
    some = runs[runs["method"] == "baseline"].assign(**{"dual_softmax/t2v/R@1": [81.0, 83.0]})
    section = build_page(some, ["x"], options=Options(resamples=100)).sections[0]
    (table,) = [table for table in section.tables if "dual_softmax" in table.name]
    assert "transductive" in table.caption
    assert table.rows[0].cells[2].text == "82.0 ± 1.4"
    assert table.columns[2].name == "R@1 (%)*"
    assert any("transductive" in note for note in table.notes)
    assert all("82.0" not in cell.text for other in section.tables[:2] for row in other.rows for cell in row.cells)


def test_what_decides_of_median_ranks_is_no_p(tmp_path: Path, write_run: WriteRun) -> None:
    for method in ("baseline", "pooling"):
        write_run(tmp_path / method, method=method, queries=20)
    captions = {}
    for metric in ("t2v/R@1", "t2v/MdR"):
        section = build_page(read_runs(tmp_path), ["x"], options=Options(resamples=100, metric=metric)).sections[0]
        captions[metric] = next(each.caption for each in section.pictures if each.name == "figure-differences")
    assert ["Holm" in caption for caption in captions.values()] == [True, False]
