"""The callbacks of a run that is stopped, moved and gone on with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from centerclip_pl.training.resuming import MovedCheckpoints, SayHowToResume


def trainer(**facts: Any) -> Any:
    return SimpleNamespace(
        **{
            "ckpt_path": None,
            "state": SimpleNamespace(fn="fit"),
            "is_global_zero": True,
            "sanity_checking": False,
            "global_step": 7,
        }
        | facts
    )


def test_remembered_paths_become_those_of_the_present_folder(tmp_path: Path) -> None:
    state = {
        "dirpath": "/old/checkpoints",
        "best_model_path": "/old/checkpoints/best.ckpt",
        "kth_best_model_path": "/old/checkpoints/best.ckpt",
        "last_model_path": "",
        "best_k_models": {"/old/checkpoints/best.ckpt": 3.0},
        "best_model_score": 3.0,
    }
    checkpoint = {"callbacks": {"ModelCheckpoint{}": state, "Other": {"count": 1}}}
    MovedCheckpoints(str(tmp_path)).on_load_checkpoint(trainer(), None, checkpoint)  # type: ignore[arg-type]
    best = str(tmp_path / "best.ckpt")
    assert state == {
        "dirpath": str(tmp_path),
        "best_model_path": best,
        "kth_best_model_path": best,
        "last_model_path": "",
        "best_k_models": {best: 3.0},
        "best_model_score": 3.0,
    }
    assert checkpoint["callbacks"]["Other"] == {"count": 1}


@pytest.mark.parametrize("path", ["/old/checkpoints/..", "..", "/"])
def test_a_remembered_path_that_is_no_file_is_forgotten(path: str, tmp_path: Path) -> None:
    state = {"dirpath": "/old", "best_model_path": path, "kth_best_model_path": path, "last_model_path": path}
    checkpoint = {"callbacks": {"ModelCheckpoint{}": {**state, "best_k_models": {path: 3.0}}}}
    MovedCheckpoints(str(tmp_path)).on_load_checkpoint(trainer(), None, checkpoint)  # type: ignore[arg-type]
    found = checkpoint["callbacks"]["ModelCheckpoint{}"]
    assert {found[key] for key in state if key != "dirpath"} == {""}
    assert found["best_k_models"] == {}


def test_the_test_behind_a_training_knows_the_best_of_a_moved_folder(tmp_path: Path) -> None:
    state = {"dirpath": "/old", "best_model_path": "/old/best.ckpt", "kth_best_model_path": "", "last_model_path": ""}
    checkpoint = {"callbacks": {"ModelCheckpoint{}": {**state, "best_k_models": {}}}}
    testing = trainer(state=SimpleNamespace(fn="test"), ckpt_path=str(tmp_path / "best.ckpt"))
    MovedCheckpoints(str(tmp_path)).on_load_checkpoint(testing, None, checkpoint)
    assert checkpoint["callbacks"]["ModelCheckpoint{}"]["best_model_path"] == str(tmp_path / "best.ckpt")


def test_a_test_leaves_remembered_paths_alone(tmp_path: Path) -> None:
    checkpoint = {"callbacks": {"ModelCheckpoint{}": {"dirpath": "/old", "best_model_path": "/old/best.ckpt"}}}
    testing = trainer(state=SimpleNamespace(fn="test"), ckpt_path="/old/best.ckpt")
    MovedCheckpoints(str(tmp_path)).on_load_checkpoint(testing, None, checkpoint)  # type: ignore[arg-type]
    assert checkpoint["callbacks"]["ModelCheckpoint{}"]["best_model_path"] == "/old/best.ckpt"


@pytest.mark.parametrize(
    ("facts", "exists", "says"),
    [
        ({}, True, True),
        ({}, False, False),  # nothing was written yet
        ({"state": SimpleNamespace(fn="test")}, True, False),
        ({"is_global_zero": False}, True, False),
    ],
)
def test_how_to_resume_is_said_where_one_can(
    facts: dict[str, Any], exists: bool, says: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if exists:
        (tmp_path / "last.ckpt").touch()
    error = RuntimeError()
    SayHowToResume(Path("runs/x"), str(tmp_path)).on_exception(trainer(**facts), None, error)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert ("stopped at step 7" in said and "--run_dir=runs/x goes on from" in said) == says
