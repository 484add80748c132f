from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.sweeps.trials import SweepFolder, Trial, current_state

PARAMETERS = {"tokens.segments": 4, "data.fps": None, "rate": 1e-05, "list": [1, "x"]}


def test_a_trial_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.add(1, {"a": 2})
    trial = folder.add(0, PARAMETERS).saved(state="failed", attempts=2, reason="no room")
    assert folder.trials() == [trial, Trial(1, {"a": 2}, tmp_path / "0001")]
    assert folder.trials()[0].folder == tmp_path / "0000"
    assert [file.name for file in (tmp_path / "0000").iterdir()] == ["trial.json"]
    assert trial.describe(["tokens.segments", "absent", "rate"]) == "segments=4 rate=1e-05"


def test_a_folder_belongs_to_one_sweep(tmp_path: Path, make_sweep: Any) -> None:
    sweep = make_sweep({"a": {"values": [1, 2]}})
    folder = SweepFolder(tmp_path / "runs")
    folder.claim(sweep)
    folder.claim(sweep)
    with pytest.raises(ConfigError, match=r"another sweep: its a is .*\[1, 2\].*, here it is .*\[1, 3\]"):
        folder.claim(make_sweep({"a": {"values": [1, 3]}}))
    with pytest.raises(ConfigError, match="another sweep: its command is"):
        folder.claim(sweep.with_words(["--trainer.max_epochs=9"]))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not a sweep's folder"):
        SweepFolder(tmp_path / "other").claim(sweep)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"index": 1}', '{"index": 0, "parameters": {}, "colour": 1}'])
def test_a_spoilt_trial_is_named(tmp_path: Path, text: str) -> None:
    SweepFolder(tmp_path).add(0, {}).folder.joinpath("trial.json").write_text(text)
    with pytest.raises(DataError, match=r"0000/trial\.json: cannot be read"):
        SweepFolder(tmp_path).trials()


def test_the_state_is_what_the_folder_holds(tmp_path: Path, write_run: Any) -> None:
    folder = SweepFolder(tmp_path)
    for noted in ("left", "running", "finished"):
        assert current_state(folder.add(0, {}).saved(state=noted)).state == "left"
    for noted in ("stopped", "failed"):
        assert current_state(folder.add(0, {}).saved(state=noted)).state == noted
    trial = folder.add(1, {}).saved(state="failed", reason="killed")
    write_run(trial.folder)
    found = current_state(trial)
    assert (found.state, found.reason) == ("finished", None)
    results = trial.folder / "results.json"
    results.write_text(results.read_text()[:100])
    assert current_state(trial).state == "failed"
    assert "not complete JSON" in str(current_state(trial).reason)
    results.write_text(json.dumps({"schema_version": 99}))
    assert "schema version 99" in str(current_state(trial).reason)


def test_the_history_of_a_metric(tmp_path: Path) -> None:
    trial = SweepFolder(tmp_path).add(0, {})
    metrics = trial.folder / "metrics.csv"
    assert trial.history("val/t2v/R@1") == []
    for text, values in (
        ("", []),
        ("step,train/loss\n1,2.0\n", []),
        ("step,val/t2v/R@1\n1,\n2,50.5\n3,\n4,60\n", [50.5, 60.0]),
        ("step,val/t2v/R@1\n1,50.5\n2,6", [50.5, 6.0]),
        ("step,val/t2v/R@1\n1,nan\n2,50\n", [50.0]),
    ):
        metrics.write_text(text)
        assert trial.history("val/t2v/R@1") == values
