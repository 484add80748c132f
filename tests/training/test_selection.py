"""On what weights were chosen, as the checkpoint file says it, whatever the test of them is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from centerclip_pl.training.selection import SelectionRule, describe_selection, recorded_rule


def write(path: Path, rule: str | None) -> Path:
    """A best checkpoint as Lightning leaves it; `rule` None: of a version that did not record it."""
    best = {"monitor": "val/t2v/R@1", "best_model_path": f"elsewhere/{path.name}", "current_score": torch.tensor(74.0)}
    callbacks: dict[str, Any] = {"ModelCheckpoint{'monitor': 'val/t2v/R@1'}": best}
    if rule is not None:
        callbacks["SelectionRule"] = SelectionRule(rule).state_dict()
    torch.save({"callbacks": callbacks, "epoch": 1, "global_step": 4}, path)
    return path


def trainer_of(path: Path) -> Any:
    """A trainer that tests a file and has trained nothing."""
    return SimpleNamespace(ckpt_path=str(path), checkpoint_callbacks=[], global_step=4, current_epoch=2)


@pytest.mark.parametrize(
    ("rule", "told", "found"),
    [
        ("test", None, "test"),  # a copy of the checkpoint, tested without the options of its run
        ("test", "test", "test"),
        ("val", "test", "val"),  # the test's own options say nothing about how it was trained
        ("val", None, "val"),
        ("last", None, "val"),  # best.ckpt of a run that was to be tested with its last weights
        (None, "test", "test"),
        (None, None, "val"),
    ],
)
def test_the_file_says_what_chose_it(tmp_path: Path, rule: str | None, told: str | None, found: str) -> None:
    path = write(tmp_path / "best.ckpt", rule)
    assert recorded_rule(torch.load(path, weights_only=True)) == rule
    selection = describe_selection(trainer_of(path), told)
    assert (selection["rule"], selection["value"], selection["selected_on"]) == ("best", 74.0, found)
    words = {"val": "chosen on validation", "test": "chosen on test, as published: optimistic"}
    assert selection["chosen"] == f"best checkpoint of epoch 1, val/t2v/R@1 74, {words[found]}"


def test_the_last_weights_are_chosen_by_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt", "last")
    content = torch.load(path, weights_only=True)
    next(iter(content["callbacks"].values()))["best_model_path"] = "elsewhere/best.ckpt"
    torch.save(content, path)
    selection = describe_selection(trainer_of(path), "test")
    assert (selection["rule"], selection["monitor"], selection["selected_on"]) == ("last", None, None)
