"""Trainings that are killed at any moment come out as if they had not been, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

PROGRAM = Path(__file__).with_name("killing.py")
BACKBONE = Path(__file__).parents[2] / "experiments/backbones/demo"


def kill(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CENTERCLIP_RUN_DIR"}
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, words)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )


@pytest.fixture
def small_backbone(tmp_path: Path) -> Path:
    """Random weights of the demo's kind."""
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = {"vocab_size": 700, "max_position_embeddings": 77, "bos_token_id": 640, "eos_token_id": 641}
    vision = {"image_size": 64, "patch_size": 16}
    folder = tmp_path / "backbone"
    CLIPModel(CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=16)).save_pretrained(
        folder
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BACKBONE / name, folder)
    return folder


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again(tmp_path: Path, small_backbone: Path) -> None:
    report = tmp_path / "report.json"
    done = kill("--folder", tmp_path / "runs", "--report", report, "--short", small_backbone)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(report.read_text())
    assert [status for _, status in found["ended"]] == [-9, -9, 143, -9], found
    assert found["different"] == [], found["said"]


@pytest.mark.soak
def test_twenty_random_moments(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = kill("--folder", tmp_path / "runs", "--report", report, "--kills", 20)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    found = json.loads(report.read_text())
    assert found["kills"] == 20
    assert len(found["moments"]) >= 6
    assert found["different"] == []
