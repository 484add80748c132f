"""Sweep files, and a program that stands for a training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from centerclip_pl.sweeps.running import SweepRunner
from centerclip_pl.sweeps.sweep_file import Sweep, read_sweep
from centerclip_pl.sweeps.trials import SweepFolder

COMMAND = ["${env}", "${interpreter}", "-m", "centerclip_pl", "train", "${args}"]
METRIC = {"name": "val/t2v/R@1", "goal": "maximize"}
FAKE = Path(__file__).with_name("fake_training.py")
MakeSweep = Callable[..., Sweep]
MakeRunner = Callable[..., SweepRunner]


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Path]:
    """``write_sweep(method="grid", parameters={...}, **sections)``; a section of None is left out."""

    def write(parameters: Any, **sections: Any) -> Path:
        content = {"program": "centerclip_pl", "command": COMMAND, "method": "grid", "metric": METRIC}
        content |= {"parameters": parameters, **sections}
        file = tmp_path / "small.yaml"
        file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return file

    return write


@pytest.fixture
def make_sweep(write_sweep: Callable[..., Path]) -> MakeSweep:
    return lambda parameters, **sections: read_sweep(write_sweep(parameters, **sections))


@pytest.fixture
def make_runner(tmp_path: Path) -> MakeRunner:
    """``make_runner(sweep, **options)``; what it says is in ``runner.said``, its folder ``tmp_path/"runs"``."""

    def make(sweep: Sweep, **options: Any) -> SweepRunner:
        folder = SweepFolder(tmp_path / "runs")
        folder.claim(sweep)
        said: list[str] = []
        program = (sys.executable, "-S", str(FAKE))
        runner = SweepRunner(sweep, folder, **{"poll": 0.02, "say": said.append, "program": program, **options})
        runner.said = said  # type: ignore[attr-defined]
        return runner

    return make


@pytest.fixture
def diary(tmp_path: Path) -> Callable[[], list[str]]:
    """What the fake trainings did, a line an event."""
    return lambda: (tmp_path / "runs" / "diary.txt").read_text().splitlines()
