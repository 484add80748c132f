from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPConfig

from centerclip_pl.errors import CheckpointError
from centerclip_pl.models.published.architecture import clip_config, describe, read_config
from centerclip_pl.models.published.archive import Archive
from centerclip_pl.models.published.weights import Published, describe_archive

WIDTHS = {"vision": 128, "text": 64}


def published(**changes: list[int] | None) -> Published:
    """OpenAI's names with the shapes of a small CLIP: 3 and 2 blocks, pictures of 5 x 5 patches of 8 pixels."""
    shapes: dict[str, list[int] | None] = {
        "visual.proj": [128, 96],
        "visual.conv1.weight": [128, 3, 8, 8],
        "visual.positional_embedding": [26, 128],
        "token_embedding.weight": [500, 64],
        "positional_embedding": [20, 64],
    }
    for tower, depth, width in (("visual.transformer", 3, 128), ("transformer", 2, 64)):
        for block in range(depth):
            shapes[f"{tower}.resblocks.{block}.mlp.c_fc.weight"] = [4 * width, width]
    shapes |= {name.replace("__", "."): shape for name, shape in changes.items()}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items() if shape is not None}
    return describe_archive(Archive(Path("x.pt"), "torch.save", tensors))


def test_sizes_are_read_off_the_shapes() -> None:
    config = clip_config(published())
    vision: Any = config.vision_config
    text: Any = config.text_config
    assert config.projection_dim == 96
    assert (vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers) == (128, 512, 3)
    assert (vision.image_size, vision.patch_size, vision.num_attention_heads) == (40, 8, 2)
    assert (text.hidden_size, text.intermediate_size, text.num_hidden_layers) == (64, 256, 2)
    assert (text.vocab_size, text.max_position_embeddings, text.num_attention_heads) == (500, 20, 1)
    assert (text.bos_token_id, text.eos_token_id) == (498, 499)
    for tower in (vision, text):
        assert (tower.hidden_act, tower.layer_norm_eps) == ("quick_gelu", 1e-5)
    assert describe(config) == (
        "ViT/8: 3 blocks of 128, 40 px, patch 8; text: 2 blocks of 64, 20 of 500 tokens; embedding: 96"
    )


@pytest.mark.parametrize(
    ("width", "depth", "name"), [(768, 12, "ViT-B/32"), (1024, 24, "ViT-L/32"), (768, 11, "ViT/32")]
)
def test_names_of_known_sizes(width: int, depth: int, name: str) -> None:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": width // 64}
    config = CLIPConfig(vision_config=sizes)
    assert describe(config).startswith(f"{name}: {depth} blocks of {width}, 224 px, patch 32;")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"visual__proj": None}, "is no whole CLIP: it has no visual.proj$"),
        (
            {"token_embedding__weight": None, "positional_embedding": None},
            "no token_embedding.weight, positional_embed",
        ),
        ({"visual__proj": [128]}, r"visual.proj is \[128\], but must have 2 dimensions"),
        ({"visual__conv1__weight": [128, 3, 8]}, r"conv1.weight is \[128, 3, 8\], but must have 4 or 5 dimensions"),
        ({"visual__conv1__weight": [128, 3, 8, 7]}, r"not square: visual.conv1.weight is \[128, 3, 8, 7\], for 26"),
        ({"visual__positional_embedding": [27, 128]}, "not square: .* for 27 positions"),
        ({"visual__positional_embedding": [1, 128]}, "not square: .* for 1 positions"),
        ({"visual__positional_embedding": [0, 128]}, r"\[0, 128\], but must have 2 dimensions, none of them empty"),
        ({"visual__conv1__weight": [100, 3, 8, 8]}, "vision transformer has 100 channels, .* heads of 64"),
        ({"token_embedding__weight": [500, 65]}, "text transformer has 65 channels"),
        ({"token_embedding__weight": [1, 64]}, "its vocabulary has 1 token, too few"),
    ],
)
def test_shapes_that_are_no_clip(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        clip_config(published(**changes))
    assert caught.value.problem.startswith("checkpoint x.pt: ")
    assert re.search(says, caught.value.problem), caught.value.problem


def test_gaps_between_blocks_do_not_make_it_deeper() -> None:
    file = published(visual__transformer__resblocks__999999999__mlp__c_fc__weight=[1])
    assert clip_config(file).vision_config.num_hidden_layers == 4  # type: ignore[union-attr]


def description(tmp_path: Path, **changes: Any) -> Path:
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 500}
    content = {
        "model_type": "clip",
        "projection_dim": 96,
        "vision_config": vision | {"image_size": 40, "patch_size": 8, "layer_norm_eps": 1e-6, "hidden_act": "gelu"},
        "text_config": text | {"max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 2},
    }
    (tmp_path / "config.json").write_text(json.dumps(content | changes))
    return tmp_path / "config.json"


def test_a_description_says_what_shapes_cannot(tmp_path: Path) -> None:
    config = clip_config(published(), read_config(description(tmp_path)))
    vision: Any = config.vision_config
    text: Any = config.text_config
    assert (vision.num_attention_heads, vision.layer_norm_eps, vision.hidden_act) == (4, 1e-6, "gelu")
    assert (text.bos_token_id, text.eos_token_id) == (0, 2)


def test_a_description_of_another_model(tmp_path: Path) -> None:
    known = read_config(description(tmp_path, projection_dim=512))
    with pytest.raises(CheckpointError, match=r"projection_dim is 512 there and 96 by the weights' shapes"):
        clip_config(published(), known)
    with pytest.raises(
        CheckpointError, match=r"vision_config\.num_hidden_layers is 3 there and 4 .*; text_config\.hid"
    ):
        clip_config(
            published(
                visual__transformer__resblocks__3__mlp__c_fc__weight=[512, 128], token_embedding__weight=[500, 128]
            ),
            read_config(description(tmp_path)),
        )


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00", '{"model_type": "clip", "text_config": 7}'])
def test_descriptions_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"{tmp_path}/config.json: "):
        read_config(tmp_path / "config.json")


def test_a_description_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"describes a model of type 'siglip', not 'clip'"):
        read_config(description(tmp_path, model_type="siglip"))
