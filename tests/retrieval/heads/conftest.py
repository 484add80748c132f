"""A small text transformer, random texts and videos, and a transformer block that torch computes, not transformers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from centerclip_pl.retrieval.heads.transformer import Transformer
from centerclip_pl.types import VideoEmbedding

DIM, SEGMENTS, CONTEXT = 16, 5, 7


def make_text_model(width: int = DIM, layers: int = 5, attention: str = "sdpa") -> CLIPTextModel:
    """Random weights of a size at which each of them matters; in evaluation mode and frozen, as it may come."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=9,
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=7,
        eos_token_id=8,
    )
    model = CLIPTextModel(config)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval().requires_grad_(False)


@pytest.fixture
def text_model() -> CLIPTextModel:
    return make_text_model()


MakeInputs = Callable[..., tuple[Tensor, VideoEmbedding, Tensor]]


@pytest.fixture
def inputs() -> tuple[Tensor, VideoEmbedding, Tensor]:
    """Texts ``[3, D]``, videos with every kind of mask ``[6, S, D]``, a logit scale."""
    random = torch.Generator().manual_seed(1)
    mask = torch.tensor(
        [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    ).bool()
    segments = torch.randn(len(mask), SEGMENTS, DIM, generator=random)
    return torch.randn(3, DIM, generator=random), VideoEmbedding(segments, mask), torch.tensor(2.3)


SlowTransformer = Callable[[Transformer, Tensor], Tensor]


@pytest.fixture
def slow_transformer() -> SlowTransformer:
    """A head's blocks by torch's own encoder layer, on one sequence ``[L, D]`` in which everything counts."""
    return _slow_transformer


@torch.no_grad()
def _slow_transformer(head: Transformer, tokens: Tensor) -> Tensor:
    for block in head.blocks:
        weights = dict(block.named_parameters())
        fused = {
            f"self_attn.in_proj_{kind}": torch.cat([weights[f"self_attn.{part}_proj.{kind}"] for part in "qkv"])
            for kind in ("weight", "bias")
        }
        names = {"self_attn.out_proj": "self_attn.out_proj", "mlp.fc1": "linear1", "mlp.fc2": "linear2"}
        names |= {"layer_norm1": "norm1", "layer_norm2": "norm2"}
        layer = nn.TransformerEncoderLayer(
            d_model=tokens.shape[1],
            nhead=block.self_attn.num_heads,
            dim_feedforward=len(weights["mlp.fc1.weight"]),
            dropout=0.0,
            activation=lambda x: x * torch.sigmoid(1.702 * x),
            layer_norm_eps=1e-12,
            norm_first=True,
            dtype=tokens.dtype,
        )
        layer.load_state_dict(
            fused | {f"{b}.{kind}": weights[f"{a}.{kind}"] for a, b in names.items() for kind in ("weight", "bias")}
        )
        tokens = layer(tokens)
    return tokens
