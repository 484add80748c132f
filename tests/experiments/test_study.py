"""The study on the demo: what is stored agrees with itself, and the README says what it found."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.runs import read_run_ranks, read_runs
from centerclip_pl.statistics import summarise

REPOSITORY = Path(__file__).parents[2]
STUDY = REPOSITORY / "experiments" / "studies"
SETTINGS = {
    "baseline": 1,
    "temporal_shift": 1,
    "token_shift": 1,
    "kmedoids": 6,
    "spectral": 4,
    "sparse": 4,
    "pooling": 2,
}


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return read_runs(STUDY / "demo")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, STUDY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_was_run_with_three_seeds_on_the_same_queries(runs: pd.DataFrame) -> None:
    per_setting = runs.groupby(["method", "segments", "clusters"], dropna=False)["seed"].agg(sorted)
    assert all(seeds == [0, 1, 2] for seeds in per_setting)
    assert per_setting.groupby("method").size().to_dict() == SETTINGS
    assert set(runs["protocol"]) == {"demo-1000"}
    assert set(runs["selected_on"]) == {"val"}
    assert (runs["missing_videos"] + runs["broken_videos"]).sum() == 0


def test_the_metrics_are_those_of_the_ranks(runs: pd.DataFrame) -> None:
    for _, run in runs.iterrows():
        ranks = read_run_ranks(run["run"])
        t2v = ranks.loc[ranks["direction"] == "t2v", "rank"]
        assert len(t2v) == 1000
        assert run["t2v/R@1"] == pytest.approx(100 * np.mean(t2v <= 1), abs=1e-3)
        assert run["t2v/MnR"] == pytest.approx(np.mean(t2v), abs=1e-3)


def test_the_readme_shows_this_table(runs: pd.DataFrame) -> None:
    table = load("draw").table(summarise(runs))
    assert table in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for picture in ("pareto", "segments", "differences"):
        assert (REPOSITORY / "docs" / f"study-{picture}.svg").stat().st_size > 10_000


def test_an_export_has_no_folders_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_run: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    one, several = write_run(tmp_path / "runs" / "one"), write_run(tmp_path / "runs" / "several", captions_per_video=2)
    (one / "log.txt").write_text("not kept")
    assert load("export").export(Path("runs"), Path("out")) == 2
    exported = tmp_path / "out" / "one"
    assert sorted(path.name for path in exported.iterdir()) == ["config.yaml", "ranks.parquet", "results.json"]
    assert str(tmp_path) not in (exported / "results.json").read_text()
    assert "runs/one/checkpoints/best.ckpt" in (exported / "results.json").read_text()
    before, after = read_run_ranks(one), read_run_ranks(exported)
    assert after["rank"].tolist() == before["rank"].tolist()
    assert after["video_id"].tolist() == before["video_id"].tolist()
    assert after["caption"].isna().all()
    assert read_run_ranks(tmp_path / "out" / "several").equals(read_run_ranks(several))
