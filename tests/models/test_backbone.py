from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, CLIPTextModelWithProjection

from centerclip_pl.errors import CheckpointError
from centerclip_pl.models import load_backbone


@pytest.fixture
def folder(clip: CLIPModel, tmp_path: Path) -> Path:
    clip.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def same_weights(found: CLIPModel, expected: CLIPModel) -> bool:
    ours, theirs = found.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_half_precision_weights_come_as_float32(clip: CLIPModel, tmp_path: Path) -> None:
    clip.half().save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    found = load_backbone(str(tmp_path))
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    assert same_weights(found, clip.float())
    assert isinstance(found, CLIPModel)


def test_a_configuration_gives_random_weights(config: CLIPConfig) -> None:
    torch.manual_seed(1)
    found = load_backbone(config)
    assert found.config.projection_dim == 24
    assert not same_weights(found, load_backbone(config))
    torch.manual_seed(1)
    assert same_weights(found, load_backbone(config))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention(folder: Path, config: CLIPConfig, attention: str) -> None:
    for backbone in (str(folder), config):
        found = load_backbone(backbone, attention)
        assert found.vision_model.config._attn_implementation == attention
        assert found.text_model.config._attn_implementation == attention


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere", "nowhere/at/all", "~/nowhere"])
def test_no_such_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"backbone={name}: there is no such folder") as caught:
        load_backbone(name)
    assert str(tmp_path) in caught.value.problem
    assert "openai/clip-vit-base-patch32" in str(caught.value.next_step)


def test_a_folder_without_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=f"{folder}: the folder has no config.json"):
        load_backbone(str(folder))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_off(folder: Path, kept: float) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=f"{folder}: cannot be read") as caught:
        load_backbone(str(folder))
    assert "again" in str(caught.value.next_step)
    assert len(caught.value.problem) < 500


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"{folder}: cannot be read: .*model.safetensors"):
        load_backbone(str(folder))


@pytest.mark.parametrize("content", ["{", "", "[]", "\x00"])
def test_a_configuration_that_is_none(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=str(folder)):
        load_backbone(str(folder))


def test_the_text_tower_alone(config: CLIPConfig, tmp_path: Path) -> None:
    CLIPTextModelWithProjection(config.text_config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: is a model of type 'clip_text_model', not"):
        load_backbone(str(tmp_path))


def test_another_architecture(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: is a model of type 'bert', not 'clip'"):
        load_backbone(str(tmp_path))


def edit(folder: Path, **changes: Any) -> None:
    """Replaces tensors of the file, or removes them where None is given."""
    tensors = load_file(folder / "model.safetensors") | {name.replace("__", "."): t for name, t in changes.items()}
    save_file({k: t for k, t in tensors.items() if t is not None}, folder / "model.safetensors", {"format": "pt"})


def test_missing_weights_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(folder, visual_projection__weight=None, logit_scale=None)
    with pytest.raises(CheckpointError, match=r"2 weights are missing.*logit_scale, visual_projection.weight"):
        load_backbone(str(folder))
    assert caplog.text == ""  # it is all in the error


def test_weights_of_another_shape(folder: Path) -> None:
    edit(folder, visual_projection__weight=torch.zeros(23, 16))
    with pytest.raises(CheckpointError, match=r"1 weights are missing or of another shape.*visual_projection.weight"):
        load_backbone(str(folder))


# The hub -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Counts attempts to reach anything."""
    attempts: list[Any] = []

    def refuse(*args: Any, **_: Any) -> NoReturn:
        attempts.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cached_model_needs_no_network(folder: Path, clip: CLIPModel, cache: Path, no_network: list[Any]) -> None:
    repository = cache / "models--someone--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    assert same_weights(load_backbone("someone/clip"), clip)
    assert no_network == []


@pytest.mark.usefixtures("cache", "no_network")
def test_a_model_that_cannot_be_downloaded() -> None:
    with pytest.raises(CheckpointError, match=r"backbone=someone/absent: .*cannot be downloaded") as caught:
        load_backbone("someone/absent")
    assert "--local-dir" in str(caught.value.next_step)


def test_what_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def refuse(name: str, **options: Any) -> NoReturn:
        asked.append((name, options))
        raise OSError("no space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=r"backbone=someone/clip.*no space left"):
        load_backbone("someone/clip")
    assert json.dumps(asked)
    assert asked[0] == ("someone/clip", {"allow_patterns": ["config.json"], "local_files_only": True})
