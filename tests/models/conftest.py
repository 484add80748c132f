"""A CLIP small enough to check by hand: widths and projection differ, so that mix-ups of dimensions do not pass."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPConfig, CLIPModel


def small_config() -> CLIPConfig:
    """32-pixel pictures of 16 patches, 4 blocks; 100 tokens, of which 98 starts a caption and 99 ends it."""
    vision = {"hidden_size": 16, "num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
    text = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 32}
    return CLIPConfig(
        text_config=text | {"num_attention_heads": 2, "intermediate_size": 48, "bos_token_id": 98, "eos_token_id": 99},
        vision_config=vision | {"num_attention_heads": 2, "intermediate_size": 32},
        projection_dim=24,
    )


@pytest.fixture
def config() -> CLIPConfig:
    return small_config()


@pytest.fixture
def clip() -> CLIPModel:
    torch.manual_seed(0)
    return CLIPModel(small_config()).eval()
