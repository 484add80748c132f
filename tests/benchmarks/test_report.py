"""What a run leaves, and what it leaves alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import report
from benchmarks.plan import Plan
from benchmarks.report import Measured, Part, circumstances, differences, results_path, write
from benchmarks.timing import Summary

ONE = Summary(1.5, 1.4, 1.6, 9)


def measured(**options: Any) -> Measured:
    return Measured(**{"group": "a / b", "what": "small", "ratio": ONE, "measurement": "distances"} | options)


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({}, None),
        ({"at_most": 1.5}, True),
        ({"at_most": 1.4}, False),
        ({"at_least": 1.5}, True),
        ({"at_least": 1.6}, False),
        ({"at_least": 1.0, "ratio": None}, None),
        ({"at_least": 1.0, "ratio": None, "wrong": True}, False),
    ],
)
def test_reached(options: dict[str, Any], reached: bool | None) -> None:
    assert measured(**options).reached is reached


def test_how_near_it_comes_to_what_operations_allow() -> None:
    assert measured(at_least=1.0, possible=2.0).near == 0.75
    assert measured(possible=1.5).near == 1.0
    assert measured(at_most=2.0, possible=1.2).near == pytest.approx(0.8)
    assert measured().near is None
    assert measured(ratio=None, possible=2.0).near is None


def test_the_file_is_named_after_the_device_and_holds_what_is_needed_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("TORCH_HOME", "/somewhere")
    monkeypatch.setattr(report, "device_name", lambda _: "Some(R) CPU @ 2.60GHz, 2 threads")
    path = results_path(Plan(), tmp_path / "new")
    assert path.name == "some-r-cpu-2-60ghz-2-threads.json"
    assert results_path(Plan(quick=True), tmp_path).name == "some-r-cpu-2-60ghz-2-threads-quick.json"
    part = Part("head", "meanP", 1.0, 2.0, 0.5, 3.0, None, "heads")
    returned = write(path, Plan(), [measured(at_most=2.0, times_ms={"a": ONE})], [part], keep=False)
    content = json.loads(path.read_text())
    assert content == json.loads(json.dumps(returned))
    assert content["environment"] == content["environment"] | {"MALLOC_MMAP_MAX_": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    assert not {"TORCH_HOME", "LD_PRELOAD", "PATH"} & set(content["environment"])
    assert content["versions"]["torch"] == torch.__version__
    assert content["threads"] == torch.get_num_threads()
    (entry,) = content["measured"]
    assert entry["ratio"] == {"median": 1.5, "low": 1.4, "high": 1.6, "repetitions": 9}
    assert entry["reached"] is True
    assert entry["times_ms"]["a"]["median"] == 1.5
    assert entry["date"] == content["date"]
    assert content["parts"][0]["what"] == "meanP"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_other_measurements_stay_with_their_date_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "device.json"
    monkeypatch.setattr(report, "commit", lambda: "first")
    write(path, Plan(), [measured(), measured(what="gone"), measured(measurement="direct")], [], keep=False)
    monkeypatch.setattr(report, "commit", lambda: "second")
    content = write(path, Plan(), [measured(what="new")], [], keep=True)
    found = [(entry["measurement"], entry["what"], entry["commit"]) for entry in content["measured"]]
    assert found == [("direct", "small", "first"), ("distances", "new", "second")]
    content = write(path, Plan(), [measured()], [], keep=False)  # a whole run leaves nothing of old ones
    assert len(content["measured"]) == 1


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    write(path, Plan(), [measured()], [], keep=False)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write(path, Plan(), [measured(detail=object())], [], keep=False)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_other_circumstances_are_named(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    assert differences(path, circumstances("cpu")) == []
    write(path, Plan(), [], [], keep=False)
    assert differences(path, circumstances("cpu")) == []
    other = circumstances("cpu") | {"threads": math.inf}
    assert len(differences(path, other)) == 1
    assert differences(path, other)[0].startswith(f"threads: {torch.get_num_threads()} there, inf now")
