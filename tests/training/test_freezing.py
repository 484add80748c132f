from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPConfig

from centerclip_pl.errors import ConfigError
from centerclip_pl.models import TextTower, VideoTower, load_backbone
from centerclip_pl.retrieval import cosine_logits, symmetric_cross_entropy
from centerclip_pl.training.freezing import freeze_layers
from centerclip_pl.training.optim import OptimizerOptions, make_optimizer, parameter_groups

VISION_BLOCKS, TEXT_BLOCKS = 4, 3


class Clip(nn.Module):
    """The towers and the scale alone, with the parameter names of TextVideoRetrieval."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
        text = {"vocab_size": 20, "max_position_embeddings": 6, "num_hidden_layers": TEXT_BLOCKS}
        vision = {"image_size": 16, "patch_size": 8, "num_hidden_layers": VISION_BLOCKS}
        clip = load_backbone(CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=8))
        self.video = VideoTower(clip.vision_model, clip.visual_projection, num_frames=2)
        self.text = TextTower(clip.text_model, clip.text_projection)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def loss(self) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        frames = torch.randn(3, 2, 3, 16, 16, generator=generator)
        ids = torch.randint(1, 20, (3, 6), generator=generator)
        text = self.text(ids, torch.ones_like(ids))
        return symmetric_cross_entropy(cosine_logits(text, self.video(frames), self.logit_scale))


def parts_of(names: list[str]) -> set[str]:
    """Names of parameters, those of a whole block as one."""
    return {".".join(name.split(".")[:4]) if ".layers." in name else name for name in names}


EMBEDDINGS = {
    "vision.embeddings.class_embedding",
    "vision.embeddings.patch_embedding.weight",
    "vision.embeddings.position_embedding.weight",
    "vision.pre_layrnorm.weight",
    "vision.pre_layrnorm.bias",
    "text.embeddings.token_embedding.weight",
    "text.embeddings.position_embedding.weight",
}


def blocks(vision: int, text: int) -> set[str]:
    found = {f"vision.encoder.layers.{i}" for i in range(vision)}
    return found | {f"text.encoder.layers.{i}" for i in range(text)}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_frozen(count: int) -> None:
    clip = Clip()
    frozen = freeze_layers(clip.video.vision, clip.text.text, count)
    assert len(frozen) == len(set(frozen)) == 7 + 2 * 16 * count
    assert parts_of(frozen) == EMBEDDINGS | blocks(count, count)
    short = {
        name.replace("video.vision.", "vision.").replace("text.text.", "text."): p
        for name, p in clip.named_parameters()
    }
    assert {name for name, parameter in short.items() if not parameter.requires_grad} == set(frozen)
    trained = parts_of([name for name, parameter in short.items() if parameter.requires_grad])
    outside = {"logit_scale", "video.projection.weight", "text.projection.weight"}
    norms = {f"vision.post_layernorm.{k}" for k in ("weight", "bias")} | {
        f"text.final_layer_norm.{k}" for k in ("weight", "bias")
    }
    assert trained == outside | norms | (blocks(VISION_BLOCKS, TEXT_BLOCKS) - blocks(count, count))


def test_none_freezes_nothing() -> None:
    clip = Clip()
    assert freeze_layers(clip.video.vision, clip.text.text, None) == []
    assert all(parameter.requires_grad for parameter in clip.parameters())


def test_a_3d_patch_embedding_stays_trainable() -> None:
    clip = Clip()
    patches = nn.Conv3d(3, 16, (3, 8, 8), (1, 8, 8), (1, 0, 0), bias=False)
    clip.video.vision.embeddings.add_module("patch_embedding", patches)
    frozen = freeze_layers(clip.video.vision, clip.text.text, 2)
    assert parts_of(frozen) == EMBEDDINGS - {"vision.embeddings.patch_embedding.weight"} | blocks(2, 2)
    assert patches.weight.requires_grad


@pytest.mark.parametrize("recipe", ["centerclip", "clip4clip"])
@pytest.mark.parametrize("count", [None, 0, 2])
def test_a_step_changes_all_but_the_frozen(recipe: str, count: int | None) -> None:
    clip = Clip()
    freeze_layers(clip.video.vision, clip.text.text, count)
    before = {name: parameter.detach().clone() for name, parameter in clip.named_parameters()}
    options = OptimizerOptions(recipe=recipe, learning_rate=1e-2, clip_scale=1.0)  # type: ignore[arg-type]
    optimizer = make_optimizer(parameter_groups(clip.named_parameters(), [], options), options)
    clip.loss().backward()
    optimizer.step()
    held = sum(len(group["params"]) for group in optimizer.param_groups)
    assert held == sum(parameter.requires_grad for parameter in clip.parameters())
    for name, parameter in clip.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
        else:
            assert parameter.grad is not None, name
            # The same shift of all keys changes no attention: this bias has no gradient but rounding.
            assert "k_proj.bias" in name or not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("count", [-1, 4, 5])
def test_an_impossible_number_is_refused_and_freezes_nothing(count: int) -> None:
    clip = Clip()
    message = f"freeze_layers is {count}, but the backbone has 4 blocks in the vision tower and 3 blocks in the text"
    with pytest.raises(ConfigError, match=message):
        freeze_layers(clip.video.vision, clip.text.text, count)
    assert all(parameter.requires_grad for parameter in clip.parameters())
