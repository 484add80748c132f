from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.cli import main, overview
from centerclip_pl.runs import read_runs

WriteRun = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> Path:
    """Two methods with two seeds each, and a run of another protocol whose checkpoint was chosen on test."""
    root = tmp_path_factory.mktemp("study")
    for method, skill in (("kmedoids", 0.7), ("pooling", 0.5)):
        for seed in (0, 1):
            write_run(root / f"{method}-{seed}", method=method, seed=seed, skill=skill, created=f"2026-01-0{seed + 1}")
    write_run(
        root / "other", dataset="msrvtt", protocol="msrvtt-1ka", selection={"selected_on": "test"}, created="2026-01-09"
    )
    return root


def refused(capsys: Capture, *words: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["runs", *map(str, words)])
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    return captured.err


def listed(capsys: Capture, *words: object) -> str:
    main(["runs", *map(str, words)])
    return capsys.readouterr().out


def test_protocols_are_tables_of_their_own(study: Path, capsys: Capture) -> None:
    output = listed(capsys, study, "--sort", "t2v/R@1")
    first, second = output.split("msrvtt, test, protocol msrvtt-1ka: 1 run\n")
    assert first.startswith("demo, test, protocol demo-200: 4 runs\n")
    assert first.index("kmedoids-") < first.index("pooling-")
    assert "other" not in first
    assert "other †" in second
    assert "† the checkpoint was chosen on the test split" in second


def test_the_default_source_is_runs(study: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    assert "there is no such folder" in refused(capsys)
    (study.parent / "runs").symlink_to(study)
    try:
        assert "runs/kmedoids-0" in listed(capsys, "--csv", "--columns=run")
    finally:
        (study.parent / "runs").unlink()


def test_csv_has_all_columns_and_the_protocol(study: Path, capsys: Capture, tmp_path: Path) -> None:
    whole = pd.read_csv(io.StringIO(listed(capsys, study, "--csv")))
    expected = read_runs(study)
    assert list(whole.columns) == list(expected.columns)
    assert set(whole["protocol"]) == {"demo-200", "msrvtt-1ka"}
    merged = whole.merge(expected, on="run")
    np.testing.assert_allclose(merged["t2v/R@1_x"], merged["t2v/R@1_y"])
    some = pd.read_csv(io.StringIO(listed(capsys, study, "--csv", "--columns=method,t2v/R@1")))
    assert list(some.columns) == ["dataset", "split", "protocol", "method", "t2v/R@1"]  # rows are never mixed unnamed
    # A file, and the table on the terminal all the same.
    assert "pooling-1" in listed(capsys, study, f"--csv={tmp_path / 'runs.csv'}")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "runs.csv"), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_markdown(study: Path, capsys: Capture, tmp_path: Path) -> None:
    printed = listed(capsys, study, "--markdown")
    assert printed.count("### ") == 2
    main(["runs", str(study), f"--markdown={tmp_path / 'runs.md'}"])
    assert (tmp_path / "runs.md").read_text() == printed
    assert f"written: {tmp_path / 'runs.md'}" in capsys.readouterr().err


def test_where_and_sort(study: Path, capsys: Capture) -> None:
    words = [study, "--csv", "--columns=run,t2v/R@1", "--where", "dataset == 'demo' and t2v/R@1 > 0"]
    up = pd.read_csv(io.StringIO(listed(capsys, *words, "--sort", "-t2v/R@1")))
    assert len(up) == 4
    assert up["t2v/R@1"].is_monotonic_increasing
    down = pd.read_csv(io.StringIO(listed(capsys, *words, "--sort=t2v/R@1,run")))
    assert down["t2v/R@1"].is_monotonic_decreasing
    assert "none of the 5 runs" in refused(capsys, study, "--where=seed == 9")
    assert "did you mean method?" in refused(capsys, study, "--where=metod == 'x'")


def test_seeds_are_summarised(study: Path, capsys: Capture) -> None:
    runs = read_runs(study)
    chosen = runs[runs["method"].eq("kmedoids") & runs["dataset"].eq("demo")]["t2v/R@1"]
    expected = f"{np.mean(chosen):.1f} ± {np.std(chosen, ddof=1):.1f}"
    output = listed(capsys, study, "--seeds", "--where=dataset == 'demo'")
    assert "2 settings, 4 runs" in output
    assert expected in output
    assert "seeds 2" in output.splitlines()[1]
    both = pd.read_csv(io.StringIO(listed(capsys, study, "--seeds", "--csv")))
    assert both["n_seeds"].tolist() == [2, 2, 1]
    row = both.iloc[0]
    assert row["t2v/R@1 low"] < row["t2v/R@1"] < row["t2v/R@1 high"]
    assert "one seed: no spread" in listed(capsys, study / "other", "--seeds")


def test_columns(study: Path, capsys: Capture) -> None:
    output = listed(capsys, study / "other", "--markdown", "--columns=run,seed,t2v/MnR")
    assert "| run | seed | t2v/MnR |" in output
    assert "commit" in listed(capsys, study, "--columns=all")
    assert "did you mean t2v/R@1" in refused(capsys, study, "--columns=t2v/R@2")


def test_bad_and_unfinished_runs_are_named(study: Path, capsys: Capture, tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "good")
    (write_run(tmp_path / "bad") / "results.json").write_text("{")
    (write_run(tmp_path / "running") / "results.json").unlink()
    assert f"{tmp_path}/bad/results.json" in refused(capsys, tmp_path)
    main(["runs", str(tmp_path), "--on_bad_run=skip"])
    captured = capsys.readouterr()
    assert "1 run\n" in captured.out
    assert f"left out: {tmp_path}/bad/results.json: is not complete JSON" in captured.err
    assert f"unfinished, has options and no results: {tmp_path}/running" in captured.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--colums=a"], "did you mean --columns?"),
        (["--on_bad_run=ignore"], "invalid choice: 'ignore'"),
        (["--csv", "--markdown"], "both print"),
        (["--csv=FOLDER/none/runs.csv"], "cannot be written: No such file or directory"),
        (["--markdown=FOLDER"], "cannot be written: it is a folder"),
        (["--sort=nothing"], "--sort: there is no column 'nothing'"),
    ],
)
def test_mistakes_are_one_message(study: Path, capsys: Capture, tmp_path: Path, words: list[str], says: str) -> None:
    assert says in refused(capsys, study, *(word.replace("FOLDER", str(tmp_path)) for word in words))
    assert not list(tmp_path.iterdir())


def test_the_command_is_listed_and_starts_lightly(study: Path) -> None:
    assert "  runs " in overview()
    program = """
import sys
from centerclip_pl.cli import main
main(["runs", sys.argv[1], "--sort=t2v/R@1"])
heavy = {"torch", "lightning", "wandb", "matplotlib", "jsonargparse", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program, study], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "kmedoids-0" in done.stdout


@pytest.mark.parametrize("columns", ["", ",", " , "])
def test_no_columns_are_refused(study: Path, capsys: Capture, columns: str) -> None:
    assert "--columns names none" in refused(capsys, study, f"--columns={columns}")


def test_a_line_break_in_a_name_breaks_no_row(tmp_path: Path, write_run: WriteRun, capsys: Capture) -> None:
    write_run(tmp_path / "a\nb", queries=20)
    write_run(tmp_path / "c", queries=20, seed=1)
    main(["runs", str(tmp_path), "--markdown"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert len({row.count("|") for row in rows}) == 1
