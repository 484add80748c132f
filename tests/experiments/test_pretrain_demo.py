"""The script that made the demo's backbone, run small, and what it left in the repository."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from centerclip_pl.models import load_backbone

BACKBONES = Path(__file__).parents[2] / "experiments" / "backbones"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrain_demo", BACKBONES / "pretrain_demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.soak
def test_it_writes_a_backbone_that_loads(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.train_tokenizer, "__defaults__", (200,))
    monkeypatch.setattr(script.evaluate, "__defaults__", (10,))
    script.pretrain(tmp_path, steps=3, batch_size=4, workers=0, log_every=1)
    model = load_backbone(str(tmp_path))
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == model.config.text_config.eos_token_id
    assert pd.read_csv(tmp_path / "pretrain.csv")["step"].tolist() == [1, 2, 3]
    assert json.loads((tmp_path / "pretrain.json").read_text())["pictures_seen"] == 12
    assert not list(tmp_path.glob("*.part"))


def test_stills_follow_from_seed_and_index_alone(script: ModuleType) -> None:
    picture, caption = script.Stills(10, seed=5)[7]
    again, words = script.Stills(3000, seed=5)[7]
    assert torch.equal(picture, again)
    assert caption == words
    assert picture.shape == (3, 64, 64)


def test_the_committed_backbone_is_small_and_has_its_record() -> None:
    folder = BACKBONES / "demo"
    assert (folder / "model.safetensors").stat().st_size < 4 * 2**20
    facts = json.loads((folder / "pretrain.json").read_text())
    log = pd.read_csv(folder / "pretrain.csv")
    assert log["step"].iloc[-1] == facts["steps"]
    assert log["heldout_R@1"].iloc[-1] == facts["heldout_text_to_picture_R@1_of_1000"]
    assert (folder / "pretrain.png").is_file()
    model = load_backbone(str(folder))
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]


def test_the_tokenizer_comes_back_to_the_words() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BACKBONES / "demo")
    caption = "on a chessboard, a small striped red star turns into a heart"
    ids = tokenizer(caption, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids).strip() == caption
    assert len(ids) == len(caption.replace(",", " ,").split())  # common words are one token each
