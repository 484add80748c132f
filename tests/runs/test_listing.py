from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.runs import read_runs
from centerclip_pl.runs.listing import cell, heading, listing, sort_runs
from centerclip_pl.runs.rendering import as_csv, as_markdown, as_text

WriteRun = Callable[..., Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("study")
    for n, (method, skill) in enumerate((("kmedoids", 0.6), ("pooling", 0.4), ("baseline", 0.8))):
        write_run(root / method / f"{n}", method=method, skill=skill, ranks=False, created=f"2026-01-0{n + 1}")
    return read_runs(root)


def marked(runs: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The second run with other values."""
    changed = runs.copy()
    for name, value in values.items():
        changed[name] = [value if n == 1 else old for n, old in enumerate(changed[name])]
    return changed


def test_what_all_runs_share_stands_above(runs: pd.DataFrame) -> None:
    table = listing(runs, "title")
    assert table.columns[:5] == ["run", "method", "after_block", "segments", "clusters"]
    above = dict(table.constants)
    assert above["head"] == "meanP"
    assert above["epochs"] == "2"
    assert above["below"] == str(Path(runs["run"][0]).parents[1])
    assert not {"head", "epochs", "device", "dataset"} & set(table.columns)
    assert [row[0] for row in table.rows] == ["kmedoids/0", "pooling/1", "baseline/2"]
    assert table.rows[2][:5] == ["baseline/2", "baseline", "", "", ""]
    recall = table.columns.index("t2v/R@1")
    assert [row[recall] for row in table.rows] == [f"{value:.1f}" for value in runs["t2v/R@1"]]
    assert table.footnotes == []


def test_one_run_keeps_its_whole_name_and_metrics(runs: pd.DataFrame) -> None:
    table = listing(runs.iloc[:1], "title")
    assert table.rows[0][0] == runs["run"][0]
    assert "t2v/R@1" in table.columns
    assert dict(table.constants)["method"] == "kmedoids"


@pytest.mark.parametrize(
    ("values", "mark", "says"),
    [
        ({"selected_on": "test"}, "†", "chosen on the test split"),
        ({"selection": "last", "selected_on": None}, "‡", "no validation"),
        ({"protocol": "demo-200 (partial)"}, "§", "a part of the test"),
        ({"missing_videos": 1}, "¶", "missing or broken"),
        ({"broken_videos": 1}, "¶", "missing or broken"),
        ({"published_videos": 300.0}, "¶", "fewer than published"),
        ({"selected_on": "test", "missing_videos": 1}, "†¶", "easier than the whole test"),
    ],
)
def test_what_a_reader_must_know_is_marked(runs: pd.DataFrame, values: Any, mark: str, says: str) -> None:
    table = listing(marked(runs, **values), "title")
    assert [row[0] for row in table.rows] == ["kmedoids/0", f"pooling/1 {mark}", "baseline/2"]
    assert len(table.footnotes) == len(mark)
    assert says in table.footnotes[-1]
    for text in (as_text(table), as_markdown(table)):
        assert f"pooling/1 {mark}" in text
        assert says in text


def test_marks_stay_with_chosen_columns(runs: pd.DataFrame) -> None:
    table = listing(marked(runs, selected_on="test"), "title", ["t2v/R@1", "seed"])
    assert table.headings == ["t2v/R@1", "seed"]
    assert table.rows[1][0].endswith(" †")
    assert table.constants == []


def test_transductive_columns_say_so_everywhere(runs: pd.DataFrame) -> None:
    name = "dual_softmax/t2v/R@1"
    revised = runs.assign(**{name: [50.0, np.nan, 60.0]})
    table = listing(revised, "title")
    assert table.headings[table.columns.index(name)] == f"{name} (transductive)"
    assert heading(f"{name} std") == f"{name} std (transductive)"
    assert heading("t2v_order/R@1") == "t2v_order/R@1"
    assert any("other queries" in note for note in table.footnotes)
    assert f"{name} (transductive)" in as_csv(revised).splitlines()[0]
    assert "(transductive)" in as_text(table)
    assert "(transductive)" in as_markdown(table)


def test_means_have_their_spread_and_one_seed_has_none(runs: pd.DataFrame) -> None:
    summary = runs.drop(columns=["run", "seed"]).assign(n_seeds=[3, 1, 2], seeds=[[0, 1, 2], [4], [0, 1]])
    summary["t2v/R@1 std"] = [1.25, np.nan, 0.0]
    table = listing(summary, "title")
    recall = table.columns.index("t2v/R@1")
    means = runs["t2v/R@1"].tolist()
    assert [row[recall] for row in table.rows] == [f"{means[0]:.1f} ± 1.2", f"{means[1]:.1f}", f"{means[2]:.1f} ± 0.0"]
    assert table.columns[0] == "method"
    assert [row[table.headings.index("seeds")] for row in table.rows] == ["3", "1", "2"]
    assert "one seed: no spread over seeds is known" in table.footnotes
    assert "0;1;2" in as_csv(summary)


def test_sorting(runs: pd.DataFrame) -> None:
    frame = pd.concat([runs, runs.iloc[:1].assign(**{"t2v/R@1": np.nan, "gmacs": np.nan}, method=None)])
    frame.index = pd.RangeIndex(4)

    def order(*keys: str) -> list[Any]:
        return [None if pd.isna(name) else name for name in sort_runs(frame, keys)["method"]]

    assert order("t2v/R@1") == ["baseline", "kmedoids", "pooling", None]  # recalls from the highest
    assert order("-t2v/R@1") == ["pooling", "kmedoids", "baseline", None]  # missing stays last
    assert order("t2v/MnR")[0] == "baseline"  # ranks from the lowest
    assert order("gmacs") == ["kmedoids", "pooling", "baseline", None]
    assert order("method") == ["baseline", "kmedoids", "pooling", None]
    assert order("-method") == ["pooling", "kmedoids", "baseline", None]
    assert order("head", "-created") == ["baseline", "pooling", "kmedoids", None]
    assert order() == ["kmedoids", "pooling", "baseline", None]
    mixed = runs.assign(after_block=pd.Series(["[2, 4]", 3, None], dtype=object))
    assert sort_runs(mixed, ["after_block"])["method"].tolist() == ["pooling", "kmedoids", "baseline"]
    with pytest.raises(ConfigError, match=r"--sort: there is no column 't2v/R@2'") as caught:
        sort_runs(frame, ["-t2v/R@2"])
    assert "did you mean t2v/R@1" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (61.25, "t2v/R@1", "61.2"),
        (0.32159, "gmacs", "0.32"),
        (1234.56, "memory_mb", "1,235"),
        (9.55, "encode_ms", "9.6"),
        (0.0005, "model.optimizer.learning_rate", "0.0005"),
        (48.0, "clusters", "48"),
        (True, "model.reduction.normalize", "True"),
        (None, "selected_on", ""),
        (np.nan, "segments", ""),
        ([0, 1], "seeds", "0, 1"),
        ("[2, 4]", "after_block", "[2, 4]"),
    ],
)
def test_cells(value: Any, column: str, text: str) -> None:
    assert cell(value, column) == text


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_a_terminal_gets_what_fits_and_is_told_the_rest(runs: pd.DataFrame, width: int) -> None:
    table = listing(runs, "demo: 3 runs")
    text = as_text(table, width=width)
    assert max(map(len, text.splitlines())) <= width
    shown = text.replace("\n", " ")
    left_out = text[text.index("not shown") :].replace("\n", " ") if "not shown" in text else ""
    for name in ("t2v/R@1", *(("v2t/R@5", "gmacs") if width >= 140 else ())):
        assert name in shown
    assert ("v2t/MnR" in left_out) == (width < 200)
    full = as_text(table)
    assert all(cell in full for row in table.rows for cell in row)
    assert "not shown" not in full
    assert "\x1b" not in full
    assert "\x1b[1m" in as_text(table, width=width, color=True)


def test_markdown_shows_every_character_as_it_is(runs: pd.DataFrame) -> None:
    odd = runs.assign(method=["a|b", "<script>", "x_y*z"])
    lines = as_markdown(listing(odd, "title")).splitlines()
    assert lines[0] == "### title"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 5
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "a\\|b" in table[2]
    assert "\\<script\\>" in table[3]
    assert "x\\_y\\*z" in table[4]


def test_csv_reads_back(runs: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(as_csv(runs))
    back = pd.read_csv(tmp_path / "runs.csv")
    assert back.columns.tolist() == runs.columns.tolist()
    np.testing.assert_allclose(back["t2v/MnR"], runs["t2v/MnR"])
    assert back["clusters"].tolist()[0] == 48
    assert back["run"].tolist() == runs["run"].tolist()
