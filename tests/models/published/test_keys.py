from __future__ import annotations

import pytest
import torch
from transformers import CLIPConfig

from centerclip_pl.models.published.keys import (
    FileNames,
    Naming,
    Source,
    find_cluster_embeddings,
    find_head,
    find_patch,
    recognise,
)
from centerclip_pl.models.published.weights import clip_shapes, huggingface_weights

VISION, TEXT = "video.vision.encoder.layers.2.", "text.text.encoder.layers.11."


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("logit_scale", Source("clip.logit_scale")),
        ("video.projection.weight", Source("clip.visual.proj", transposed=True)),
        ("text.projection.weight", Source("clip.text_projection", transposed=True)),
        ("video.vision.embeddings.class_embedding", Source("clip.visual.class_embedding")),
        ("video.vision.embeddings.patch_embedding.weight", Source("clip.visual.conv1.weight")),
        ("video.vision.embeddings.position_embedding.weight", Source("clip.visual.positional_embedding")),
        ("video.vision.pre_layrnorm.bias", Source("clip.visual.ln_pre.bias")),
        ("video.vision.post_layernorm.weight", Source("clip.visual.ln_post.weight")),
        (f"{VISION}self_attn.q_proj.weight", Source("clip.visual.transformer.resblocks.2.attn.in_proj_weight", part=0)),
        (f"{VISION}self_attn.v_proj.bias", Source("clip.visual.transformer.resblocks.2.attn.in_proj_bias", part=2)),
        (f"{VISION}self_attn.out_proj.bias", Source("clip.visual.transformer.resblocks.2.attn.out_proj.bias")),
        (f"{VISION}layer_norm2.weight", Source("clip.visual.transformer.resblocks.2.ln_2.weight")),
        (f"{TEXT}self_attn.k_proj.weight", Source("clip.transformer.resblocks.11.attn.in_proj_weight", part=1)),
        (f"{TEXT}mlp.fc1.weight", Source("clip.transformer.resblocks.11.mlp.c_fc.weight")),
        (f"{TEXT}mlp.fc2.bias", Source("clip.transformer.resblocks.11.mlp.c_proj.bias")),
        ("text.text.embeddings.token_embedding.weight", Source("clip.token_embedding.weight")),
        ("text.text.embeddings.position_embedding.weight", Source("clip.positional_embedding")),
        ("text.text.final_layer_norm.bias", Source("clip.ln_final.bias")),
        (f"{VISION}something.weight", None),
        ("similarity_head.lstm.weight_ih_l0", None),
        ("video.reducers.0.embedding", None),
    ],
)
def test_openai(ours: str, theirs: Source | None) -> None:
    assert Naming("openai").source(ours) == theirs


BLOCK = "similarity_head.blocks.3."


@pytest.mark.parametrize(
    ("head", "ours", "theirs"),
    [
        ("seqLSTM", "similarity_head.lstm.weight_hh_l0", Source("lstm_visual.weight_hh_l0")),
        ("seqTransf", "similarity_head.positions.weight", Source("frame_position_embeddings.weight")),
        ("seqTransf", f"{BLOCK}layer_norm1.bias", Source("transformerClip.resblocks.3.ln_1.bias")),
        (
            "seqTransf",
            f"{BLOCK}self_attn.k_proj.bias",
            Source("transformerClip.resblocks.3.attn.in_proj_bias", part=1),
        ),
        ("tightTransf", "similarity_head.positions.weight", Source("cross.embeddings.position_embeddings.weight")),
        ("tightTransf", f"{BLOCK}mlp.fc2.weight", Source("cross.transformer.resblocks.3.mlp.c_proj.weight")),
        ("tightTransf", "similarity_head.norm.weight", Source("cross.pooler.ln_pool.weight")),
        ("tightTransf", "similarity_head.dense.bias", Source("cross.pooler.dense.bias")),
        ("tightTransf", "similarity_head.score.weight", Source("similarity_dense.weight")),
        ("seqLSTM", "similarity_head.positions.weight", None),
    ],
)
def test_heads(head: str, ours: str, theirs: Source | None) -> None:
    assert Naming("openai", head).source(ours) == theirs


def test_patches() -> None:
    name = "video.vision.embeddings.patch_embedding.weight"
    assert Naming("openai", patch="3d").source(name) == Source("clip.visual.conv2.weight")
    assert Naming("openai", inflate=True).source(name) == Source("clip.visual.conv1.weight", inflated=True)
    hugging = Naming("huggingface", inflate=True).source(name)
    assert hugging == Source("vision_model.embeddings.patch_embedding.weight", inflated=True)
    assert Naming("ours", inflate=True).source(name) == Source(name, inflated=True)
    assert find_patch("openai", {"clip.visual.conv1.weight": [1], "clip.visual.conv2.weight": [1]}) == "3d"
    assert find_patch("openai", {"clip.visual.conv1.weight": [1] * 4}) == "2d"
    assert find_patch("ours", {name: [8, 3, 3, 4, 4]}) == "3d"
    assert find_patch("ours", {name: [8, 3, 4, 4]}) == "2d"


def test_what_is_taken_has_the_shape_that_was_asked_for() -> None:
    fused = torch.arange(24.0).view(12, 2)
    for part in range(3):
        source = Source("x", part=part)
        assert torch.equal(source.take(fused), fused[4 * part : 4 * part + 4])
        assert source.shape_in_file([4, 2]) == [12, 2]
    assert Source("x", transposed=True).take(fused).shape == (2, 12)
    assert Source("x", transposed=True).shape_in_file([2, 12]) == [12, 2]
    kernel = torch.randn(5, 3, 4, 4)
    volume = Source("x", inflated=True).take(kernel)
    assert volume.shape == (5, 3, 3, 4, 4)
    assert torch.equal(volume[:, :, 1], kernel)
    assert not volume[:, :, ::2].any()
    assert Source("x", inflated=True).shape_in_file([5, 3, 3, 4, 4]) == [5, 3, 4, 4]


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (["clip.visual.proj", "clip.logit_scale"], "meanP"),
        (["clip.visual.proj", "frame_position_embeddings.weight", "lstm_visual.bias_hh_l0"], "seqLSTM"),
        (["frame_position_embeddings.weight", "transformerClip.resblocks.0.ln_1.bias"], "seqTransf"),
        (["similarity_dense.weight", "cross.pooler.ln_pool.weight"], "tightTransf"),
        (["frame_position_embeddings.weight"], "meanP"),
    ],
)
def test_find_head(names: list[str], head: str) -> None:
    assert find_head(names) == head


def test_what_has_no_use() -> None:
    plain, hugging, ours = Naming("openai"), Naming("huggingface"), Naming("ours")
    assert all(plain.unused(f"clip.{name}") for name in ("input_resolution", "context_length", "vocab_size"))
    assert plain.unused("clip.transformer.resblocks.0.attn_mask")
    assert not plain.unused("clip.visual.conv1.weight")
    assert Naming("openai", patch="3d").unused("clip.visual.conv1.weight")
    assert not plain.unused("frame_position_embeddings.weight")
    assert Naming("openai", "seqLSTM").unused("frame_position_embeddings.weight")
    assert hugging.unused("text_model.embeddings.position_ids")
    assert not hugging.unused("text_model.position_ids.weight")
    assert not ours.unused("vocab_size")


def test_cluster_embeddings() -> None:
    shapes = {
        "clip.visual.transformer.resblocks.10.cluster_embed": [9, 64],
        "clip.visual.transformer.resblocks.9.cluster_embed": [49, 64],
        "clip.visual.cluster.norm_of_embed": [64],  # one dimension: no embedding
        "clip.cluster_embed": [9, 64],
        "clip.visual.positional_embedding": [10, 64],
    }
    found = find_cluster_embeddings(shapes)
    assert [name.split(".")[4] for name in found] == ["9", "10"]
    naming = Naming("openai", clusters=found, embedded=(0, 2))
    assert naming.source("video.reducers.0.embedding") == Source(found[0])
    assert naming.source("video.reducers.2.embedding") == Source(found[1])
    assert naming.source("video.reducers.1.embedding") is None
    assert naming.source("video.reducers.0.other") is None


OPENAI = ["visual.proj", "logit_scale", "transformer.resblocks.0.ln_1.bias"]
HUGGING = ["vision_model.post_layernorm.bias", "text_model.final_layer_norm.bias", "logit_scale"]
WITH_HEAD = ["clip.visual.proj", "clip.logit_scale", "lstm_visual.bias_hh_l0"]


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize(
    ("names", "style", "canonical"),
    [
        (OPENAI, "openai", [f"clip.{name}" for name in OPENAI]),
        ([f"clip.{name}" for name in OPENAI], "openai", [f"clip.{name}" for name in OPENAI]),
        (WITH_HEAD, "openai", WITH_HEAD),
        (HUGGING, "huggingface", HUGGING),
        ([f"clip.{name}" for name in HUGGING], "huggingface", HUGGING),
        (
            ["vision_model.vision_model.post_layernorm.bias", "text_model.text_model.a", "logit_scale"],
            "huggingface",
            ["vision_model.post_layernorm.bias", "text_model.a", "logit_scale"],
        ),
    ],
)
def test_recognise(prefix: str, names: list[str], style: str, canonical: list[str]) -> None:
    found = recognise([prefix + name for name in names])
    assert found is not None
    assert found.style == style
    assert found.own == dict(zip(canonical, (prefix + name for name in names), strict=True))
    assert all(found.name_in_file(name) == own for name, own in found.own.items())


def test_names_of_what_is_missing_are_those_that_the_file_would_have() -> None:
    for names, canonical, own in (
        (["module.clip.visual.proj", "module.lstm_visual.x"], "clip.ln_final.bias", "module.clip.ln_final.bias"),
        (["module.visual.proj"], "clip.ln_final.bias", "module.ln_final.bias"),
        (["clip.vision_model.x"], "text_model.y", "clip.text_model.y"),
    ):
        found = recognise(names)
        assert isinstance(found, FileNames)
        assert found.name_in_file(canonical) == own


@pytest.mark.parametrize(
    "names", [[], ["a.weight"], ["embeddings.class_embedding", "encoder.layers.0.mlp.fc1.bias"], ["logit_scale"]]
)
def test_names_of_others(names: list[str]) -> None:
    assert recognise(names) is None


def test_every_weight_of_clip_has_a_source_and_no_two_share_one() -> None:
    shapes = clip_shapes(CLIPConfig())
    assert len(shapes) == len(huggingface_weights({name: torch.empty(0) for name in shapes}))
    for style in ("openai", "huggingface", "ours"):
        sources = [Naming(style).source(name) for name in shapes]  # type: ignore[arg-type]
        assert None not in sources
        assert len(set(sources)) == len(shapes)
    assert shapes["video.projection.weight"] == [512, 768]
    assert clip_shapes(CLIPConfig(), "3d")["video.vision.embeddings.patch_embedding.weight"] == [768, 3, 3, 32, 32]
