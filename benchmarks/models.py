"""The models that are measured: CLIP's sizes with random weights, which cost what pretrained ones do."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.tokens import Reducer

FRAMES = 12
_QUICK_WIDTH = 64


def clip_config(patch: int, text_layers: int = 12, quick: bool = False) -> CLIPConfig:
    """ViT-B/32 or ViT-B/16.

    Args:
        patch: side of a patch in pixels.
        text_layers: fewer where the text tower is not measured.
        quick: as many blocks and tokens, but narrow ones.
    """
    width, text_width = (_QUICK_WIDTH, _QUICK_WIDTH) if quick else (768, 512)
    return CLIPConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": 12,
            "num_attention_heads": width // 64,
            "patch_size": patch,
        },
        text_config={
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_width // 64,
        },
        projection_dim=text_width,
    )


def module(
    patch: int, reduction: Reducer | None = None, text_layers: int = 12, quick: bool = False
) -> TextVideoRetrieval:
    """A model on the CPU, with the same weights for every reduction; `patch`, `text_layers`, `quick` as above."""
    config = clip_config(patch, text_layers, quick)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TextVideoRetrieval(config, copy.deepcopy(reduction), num_frames=FRAMES)


def videos(count: int, device: str) -> Tensor:
    """uint8 ``[count, 12, 3, 224, 224]``: smooth pictures that move, as neighbouring patches of videos are alike."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count * 3, 1, 6, 14, 14, generator=generator)
    fine = torch.nn.functional.interpolate(
        coarse.view(count, 3, 6, 14, 14), size=(FRAMES, 224, 224), mode="trilinear", align_corners=True
    )
    noise = 0.05 * torch.rand(fine.shape, generator=generator)
    return ((fine + noise).clamp(0, 1) * 255).to(torch.uint8).transpose(1, 2).contiguous().to(device)
