from __future__ import annotations

import json
import statistics
from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.report.page import Page, Row
from centerclip_pl.report.tables import selection_words, short_commit


def by_name(rows: list[Row] | tuple[Row, ...]) -> dict[str, Row]:
    return {row.cells[0].text: row for row in rows}


def test_settings_show_mean_spread_interval_and_cost(page: Page, runs_folder: Path) -> None:
    section = page.sections[0]
    table = next(table for table in section.tables if table.name == "settings-t2v")
    row = by_name(list(table.rows))["kmedoids 8×48, block 2"]
    results = [json.loads((runs_folder / f"3-{seed}" / "results.json").read_text()) for seed in (0, 1)]
    heads = [column.name for column in table.columns]
    for head, metric in (("R@1 (%)", "t2v/R@1"), ("R@10 (%)", "t2v/R@10"), ("mean rank", "t2v/MnR")):
        values = [result["metrics"][f"test/{metric}"] for result in results]
        cell = row.cells[heads.index(head)]
        assert cell.text == f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
        assert cell.sort == pytest.approx(statistics.mean(values))
        low, high = map(float, cell.small.split(" to "))
        assert low <= round(statistics.mean(values), 1) <= high
    gmacs = statistics.median(result["cost"]["gmacs_per_video"] for result in results)
    assert row.cells[heads.index("GMACs")].text == f"{gmacs:.2f}"
    assert row.cells[heads.index("Seeds")].text == "2"


def test_one_seed_has_no_spread(page: Page) -> None:
    table = page.sections[0].tables[0]
    row = next(row for row in table.rows if row.cells[0].text.startswith("pooling"))
    assert "±" not in row.cells[2].text
    assert " to " in row.cells[2].small


def test_the_best_is_on_top_and_marked(page: Page) -> None:
    for table in page.sections[0].tables[:2]:
        assert "best" in table.rows[0].tags
        assert sum("baseline" in row.tags for row in table.rows) == 1
    values = [row.cells[2].sort for row in page.sections[0].tables[0].rows]
    assert values == sorted(values, reverse=True)
    assert len(values) == 7


def test_without_ranks_there_is_no_interval(page: Page) -> None:
    rows = page.sections[1].tables[0].rows
    assert sorted(bool(row.cells[2].small) for row in rows) == [False, True]


def test_every_run_is_listed_with_its_command(page: Page, runs: pd.DataFrame) -> None:
    for section, dataset in zip(page.sections, ("demo", "msrvtt"), strict=True):
        mine = runs[runs["dataset"] == dataset]
        commands = [row.cells[-1] for row in section.runs.rows]
        assert sorted(cell.small for cell in commands) == sorted(mine["run"])
        assert {cell.text for cell in commands} == {f"centerclip train --dataset {dataset}"}
        assert all(cell.code for cell in commands)


def test_a_checkpoint_chosen_on_test_is_marked(page: Page) -> None:
    marked = [row for row in page.sections[1].runs.rows if "chosen on test" in row.tags]
    assert [row.cells[4].text for row in marked] == ["best on test"]


@pytest.mark.parametrize(
    ("rule", "split", "words"),
    [
        ("best", "val", "best on val"),
        ("best", "test", "best on test"),
        ("last", None, "last"),
        ("zero-shot", None, "zero-shot"),
        (None, None, "–"),
    ],
)
def test_selection_in_words(rule: str | None, split: str | None, words: str) -> None:
    assert selection_words({"selection": rule, "selected_on": split}) == words


def test_short_commits() -> None:
    assert short_commit("0123456789abcdef") == "0123456789"
    assert short_commit("0123456789abcdef-dirty") == "0123456789-dirty"
    assert short_commit("") == ""
