from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps import online

GRID = {"quality": {"values": [1, 2, 3]}}


def test_the_sweep_is_made_as_the_file_says(make_sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def take(config: Any, entity: Any = None, project: Any = None) -> str:
        made.append((config, entity, project))
        return "abc123"

    monkeypatch.setattr(wandb, "sweep", take)
    sweep = make_sweep(GRID).with_words(["--trainer.max_epochs=1"])
    assert online.create(sweep, "clips", "lab") == "lab/clips/abc123"
    assert online.create(sweep, "clips", None) == "clips/abc123"
    config, entity, project = made[0]
    assert config == {"name": "small", **sweep.config}
    assert config["command"][-2:] == ["${args}", "--trainer.max_epochs=1"]
    assert (entity, project) == ("lab", "clips")


def test_a_refusal_is_one_clear_error(make_sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("permission denied")

    monkeypatch.setattr(wandb, "sweep", refuse)
    with pytest.raises(ConfigError, match="W&B did not take the sweep small: permission denied"):
        online.create(make_sweep(GRID), "clips", None)


def test_the_agent_is_wandbs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def run(command: list[str], check: bool) -> Any:
        called.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(subprocess, "run", run)
    assert online.work("lab/clips/abc123", count=5) == 3
    assert called == [[sys.executable, "-m", "wandb", "agent", "--count", "5", "lab/clips/abc123"]]
