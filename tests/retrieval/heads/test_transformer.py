"""What heads start from: CLIP's text transformer, or random weights as CLIP's are; the names of their weights."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval import HEADS, SequentialLSTM, SequentialTransformer, TightTransformer, make_head
from centerclip_pl.retrieval.heads.transformer import Transformer

TRANSFORMERS = ["seqTransf", "tightTransf"]
TOKENS = {"bos_token_id": 7, "eos_token_id": 8}


def made(name: str, text_model: CLIPTextModel, dim: int) -> Transformer:
    head = make_head(name, text_model, dim)
    assert isinstance(head, Transformer)
    return head


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_starts_as_clip(name: str, text_model: CLIPTextModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = made(name, text_model, 16)
    assert torch.equal(head.positions.weight, text_model.embeddings.position_embedding.weight)
    assert len(head.blocks) == 4  # of 5
    clip = text_model.encoder.layers.state_dict()
    copied = head.blocks.state_dict()
    assert set(copied) == {key for key in clip if not key.startswith("4.")}
    assert all(torch.equal(weights, clip[key]) for key, weights in copied.items())
    assert all(block.self_attn.num_heads == 2 for block in head.blocks)
    # The text model was frozen and in evaluation mode; the head is neither, and has weights of its own.
    assert all(module.training for module in head.modules())
    assert all(parameter.requires_grad for parameter in head.parameters())
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    assert all(text_model.state_dict()[key].any() for key in text_model.state_dict() if "layer" in key)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_as_deep_as_clip_where_that_is_shallow(name: str) -> None:
    config = CLIPTextConfig(vocab_size=9, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, **TOKENS)
    text_model = CLIPTextModel(config)
    head = made(name, text_model, 16)
    assert len(head.blocks) == 3
    assert head.blocks.state_dict().keys() == text_model.encoder.layers.state_dict().keys()
    assert head.positions.num_embeddings == 77


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_other_width_starts_at_random(name: str, attention: str, text_model: CLIPTextModel) -> None:
    text_model.set_attn_implementation(attention)
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="cannot start from CLIP: its text transformer has 16 channels"):
        head = made(name, text_model, 128)
    assert (len(head.blocks), head.positions.num_embeddings) == (4, 7)
    for block in head.blocks:
        assert (block.self_attn.num_heads, block.mlp.fc1.out_features) == (2, 512)
        assert block.self_attn.config._attn_implementation == attention
        # CLIP's scheme: width^-1/2, for what goes into the residual also (2 x layers)^-1/2.
        for linear, std in (
            (block.self_attn.q_proj, 128**-0.5 * 8**-0.5),
            (block.self_attn.out_proj, 128**-0.5),
            (block.mlp.fc1, 256**-0.5),
            (block.mlp.fc2, 128**-0.5 * 8**-0.5),
        ):
            assert float(linear.weight.detach().std()) == pytest.approx(std, rel=0.05)
            assert not linear.bias.any()
        assert (block.layer_norm1.weight == 1).all()
    assert float(head.positions.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("dim", "heads"), [(512, 8), (192, 3), (24, 1), (200, 2)])
def test_default_number_of_heads(dim: int, heads: int) -> None:
    head = SequentialTransformer(dim, layers=1, positions=2)
    assert head.blocks[0].self_attn.num_heads == heads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 16, "heads": 3}, "16 channels cannot be divided among 3"),
        ({"dim": 16, "layers": 0}, "layers of a similarity head is 0"),
        ({"dim": 16, "positions": 0}, "positions of a similarity head is 0"),
        ({"dim": 0}, "dim of a similarity head is 0"),
    ],
)
def test_numbers_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SequentialTransformer(**options)


def test_what_clip_does_not_have() -> None:
    torch.manual_seed(0)
    tight = TightTransformer(128, layers=1, positions=2)
    for linear in (tight.dense, tight.score):
        assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
        assert not linear.bias.any()
    lstm = SequentialLSTM(64)
    for parameter in lstm.parameters():  # torch's: uniform up to D^-1/2
        assert float(parameter.detach().abs().max()) == pytest.approx(1 / 8, rel=0.05)


def test_names_of_weights(text_model: CLIPTextModel) -> None:
    """Checkpoints and the import of published files rely on them."""
    inside = ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"]
    inside += [f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")]
    shared = ["positions.weight"]
    shared += [f"blocks.{i}.{part}.{kind}" for i in range(4) for part in inside for kind in ("weight", "bias")]
    expected = {
        "meanP": [],
        "seqLSTM": [f"lstm.{kind}_{gate}_l0" for kind in ("weight", "bias") for gate in ("ih", "hh")],
        "seqTransf": shared,
        "tightTransf": shared + [f"{part}.{k}" for part in ("norm", "dense", "score") for k in ("weight", "bias")],
    }
    assert expected.keys() == HEADS.keys()
    for name, keys in expected.items():
        assert sorted(make_head(name, text_model, 16).state_dict()) == sorted(keys)


def test_unknown_name(text_model: CLIPTextModel) -> None:
    with pytest.raises(ConfigError, match="head is 'meanp'") as caught:
        make_head("meanp", text_model, 16)
    assert all(repr(name) in str(caught.value) for name in HEADS)
