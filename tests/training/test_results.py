from __future__ import annotations

import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.errors import DataError, NonFiniteError
from centerclip_pl.training.cost import Cost
from centerclip_pl.training.results import (
    SCHEMA_VERSION,
    Counts,
    Results,
    Selection,
    current_commit,
    installed_versions,
    make_results,
    read_results,
    write_results,
)
from centerclip_pl.training.table import format_table

BEST = Selection(
    rule="best",
    monitor="val/t2v/R@1",
    value=55.5,
    selected_on="val",
    epoch=3,
    step=120,
    path="runs/x/checkpoints/best.ckpt",
)
COST = Cost(
    gmacs_per_video=1.234,
    encode_ms_per_video=20.5,
    clustering_ms_per_video=3.25,
    peak_memory_mb=812.0,
    peak_memory_kind="process resident set",
    batch_size=1,
    frames=12,
    repetitions=5,
    device="cpu",
    dtype="float32",
    threads=2,
)
COUNTS = Counts(
    videos=198,
    texts=200,
    missing_videos=1,
    broken_videos=1,
    published_videos=None,
    bad_videos=[
        {"video_id": "a", "path": "videos/a.mp4", "reason": "does not exist", "split": "test"},
        {"video_id": "b", "path": "videos/b.mp4", "reason": "has no video stream", "split": "test"},
        {"video_id": "c", "path": "videos/c.mp4", "reason": "is empty", "split": "train"},
    ],
    splits={
        "train": {"videos": 1999, "texts": 1999, "missing": 0, "broken": 1},
        "test": {"videos": 198, "texts": 200, "missing": 1, "broken": 1},
    },
)
METRICS = {
    f"test/{direction}/{name}": value
    for direction, start in (("t2v", 50.0), ("v2t", 48.0), ("t2v_order", 20.0))
    for name, value in zip(
        ("R@1", "R@5", "R@10", "MdR", "MnR"), (start, start + 25, start + 35, 1.0, 7.25), strict=True
    )
}


def results(**changes: Any) -> Results:
    arguments: dict[str, Any] = {
        "dataset": "demo",
        "split": "test",
        "protocol": "one caption a video",
        "selection": BEST,
        "metrics": METRICS,
        "cost": COST,
        "counts": COUNTS,
        "seed": 7,
        "duration_seconds": 61.23456,
        "run_dir": "runs/x",
        "arguments": ["/somewhere/centerclip_pl/__main__.py", "train", "--dataset", "demo", "--api_key", "hush"],
    }
    return make_results(**(arguments | changes))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = results()
    write_results(tmp_path / "deep" / "results.json", written)
    assert read_results(tmp_path / "deep" / "results.json") == written
    assert written["command"] == "python -m centerclip_pl train --dataset demo --api_key ***"
    assert written["schema_version"] == SCHEMA_VERSION
    assert written["created"].endswith("+00:00")
    assert os.listdir(tmp_path / "deep") == ["results.json"]


def test_file_has_the_permissions_of_other_files(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", results())
    (tmp_path / "other").touch()
    assert (tmp_path / "results.json").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_that_are_none_are_refused_and_the_old_file_stays(tmp_path: Path, value: float) -> None:
    path = tmp_path / "results.json"
    write_results(path, results())
    before = path.read_bytes()
    with pytest.raises(NonFiniteError, match="test/v2t/MnR"):
        write_results(path, results(metrics=METRICS | {"test/v2t/MnR": value}))
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_results(tmp_path / "results.json", results())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_cut_off_is_reported(tmp_path: Path, share: float) -> None:
    path = tmp_path / "results.json"
    write_results(path, results())
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(DataError, match=r"results\.json: is not complete JSON") as error:
        read_results(path)
    assert error.value.next_step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"schema_version": None}, "schema version None"),
        ({"metrics": {"test/t2v/R@1": "high"}}, "not numbers: test/t2v/R@1"),
        ({"transductive": {"qb_norm": {"t2v/R@1": "high"}}}, "these figures are not numbers: qb_norm/t2v/R@1"),
        ({"transductive": {"qb_norm": 50.0}}, "transductive figures are not a table a method"),
    ],
)
def test_other_contents_are_reported(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(dict(results()) | change))
    with pytest.raises(DataError, match=message):
        read_results(path)


def test_a_missing_field_and_a_missing_file_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(DataError, match="no such file"):
        read_results(path)
    content = dict(results())
    del content["selection"], content["counts"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="lacks counts, selection"):
        read_results(path)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"not a results\.json"):
        read_results(path)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_commit_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert current_commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert current_commit(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = current_commit(tmp_path)
    assert clean is not None
    assert len(clean["hash"]) == 40
    assert not clean["dirty"]
    (tmp_path / "untracked").touch()
    assert current_commit(tmp_path) == clean
    (tmp_path / "a").write_text("2")
    assert current_commit(tmp_path) == {"hash": clean["hash"], "dirty": True}


def test_no_git_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert current_commit(tmp_path) is None


def test_versions_are_those_imported() -> None:
    import torch

    import centerclip_pl

    versions = installed_versions()
    assert versions["torch"] == torch.__version__
    assert versions["centerclip-pl"] == centerclip_pl.__version__
    assert {"python", "lightning", "transformers", "torchmetrics", "decord"} <= versions.keys()


def test_table_shows_both_ways_cost_counts_and_places(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").touch()
    text = format_table(results(run_dir=str(tmp_path)), width=160)
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert "50.0" in rows["text to video"]
    assert "7.2" in rows["text to video"]
    assert "48.0" in rows["video to text"]
    assert "20.0" in rows["text to video, order or direction decides"]
    for expected in (
        "demo, test: 200 texts, 198 videos",
        "1.23 GMACs and 20.5 ms a video, 3.2 of them clustering",
        "peak memory 812 MiB (process resident set)",
        "best checkpoint of epoch 3, val/t2v/R@1 55.5",
        "3 videos that cannot be used, 2 of them in test: a, b, c",
        str(tmp_path / "results.json"),
        str(tmp_path / "metrics.csv"),
        "61 s",
    ):
        assert expected in text
    assert "checkpoints" not in text  # there are none
    assert "\x1b" not in text


def test_table_without_order_subset_cost_or_missing_videos() -> None:
    metrics = {key: value for key, value in METRICS.items() if "order" not in key}
    selection = BEST | Selection(
        rule="zero-shot", monitor=None, value=None, selected_on=None, epoch=None, step=None, path=None
    )
    counts = COUNTS | {"missing_videos": 0, "broken_videos": 0, "bad_videos": []}
    text = format_table(results(metrics=metrics, cost=None, selection=selection, counts=counts))
    assert "zero-shot" in text
    for absent in ("order", "GMACs", "left out"):
        assert absent not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_table_says_when_the_test_set_chose_the_checkpoint() -> None:
    text = format_table(results(selection=BEST | {"selected_on": "test"}), width=160)
    assert "val/t2v/R@1 55.5, chosen on test, as published: optimistic" in text


def test_fewer_videos_than_published_are_said() -> None:
    for published, said in [(1000, "198 videos in place of 1,000; fewer videos are easier to tell apart"), (198, "")]:
        text = format_table(results(counts=COUNTS | {"published_videos": published}), width=160)
        assert ("not as published" in text) == bool(said)
        assert said in text


REVISED: dict[str, Any] = {
    "transductive": {
        "dual_softmax": {"t2v/R@1": 61.5, "t2v/MnR": 4.25, "v2t/R@1": 62.0},
        "qb_norm": {"t2v/R@1": 59.75},
    },
    "transductive_parameters": {
        "dual_softmax": {"temperature": 1.0},
        "qb_norm": {"beta": 20.0, "k": 1, "bank_source": "train", "bank_texts": 1800, "bank_videos": 0, "seed": 0},
    },
}


def test_transductive_figures_stand_apart(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    plain = results()
    assert not plain.keys() & REVISED.keys()
    assert results(transductive={}, transductive_parameters={}).keys() == plain.keys()
    written = results(**REVISED)
    write_results(path, written)
    read = read_results(path)
    assert read == written
    assert {name: read[name] for name in REVISED} == REVISED  # type: ignore[literal-required]
    assert read["metrics"] == plain["metrics"]
    assert read["schema_version"] == plain["schema_version"]


def test_transductive_figures_that_are_none_are_refused(tmp_path: Path) -> None:
    spoilt = results(transductive={"qb_norm": {"t2v/R@1": float("nan")}})
    with pytest.raises(NonFiniteError, match="qb_norm/t2v/R@1 is nan"):
        write_results(tmp_path / "results.json", spoilt)
    assert list(tmp_path.iterdir()) == []


def test_table_marks_what_is_transductive() -> None:
    plain, text = format_table(results(), width=120), format_table(results(**REVISED), width=120)
    assert "transductive" not in plain
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.count("│") > 5}
    assert "61.5" in rows["text to video, dual softmax (transductive)"]
    assert "62.0" in rows["video to text, dual softmax (transductive)"]
    assert "59.8" in rows["text to video, QB-Norm (transductive)"]
    assert len(rows) == 6
    assert (
        "dual softmax over the test's queries: temperature 1; QB-Norm: beta 20, bank of 1,800 training captions" in text
    )
    for line in plain.splitlines():
        if "text to video" in line or "R@1" in line or "protocol" in line:
            assert re.sub(r"\W+", " ", line) in re.sub(r"\W+", " ", text)
