"""3D patches: CLIP's patch embedding over neighbouring frames (CLIP4Clip, arXiv 2104.08860, section 3.2)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from centerclip_pl.errors import ConfigError

_REACH = 3  # frames that one patch sees


class TemporalPatchEmbedding(nn.Conv3d):
    """A convolution over 3 frames and P x P pixels, in place of a vision transformer's 2D patch embedding.

    It steps by one frame and P pixels; beyond a video's ends there are zeros. The host passes it pictures one after
    another, so it has to be told (`frames`) how many of them are a video.

    Args:
        channels: of a picture.
        width: of the transformer.
        patch: P, side of a patch in pixels.
    """

    frames = 1
    """T, pictures of a video; set before a forward pass."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__(
            channels, width, (_REACH, patch, patch), stride=(1, patch, patch), padding=(_REACH // 2, 0, 0), bias=False
        )

    @classmethod
    @torch.no_grad()
    def inflate(cls, flat: nn.Conv2d) -> Self:
        """Starts from a 2D patch embedding: zeros but for the middle frame, so it gives the same at first."""
        width, channels, patch, _ = flat.weight.shape
        found = cls(channels, width, patch).to(flat.weight)
        found.weight.zero_()
        found.weight[:, :, _REACH // 2] = flat.weight
        return found

    def forward(self, pictures: Tensor) -> Tensor:
        """Embeds patches: ``[B*T, 3, H, W]`` -> ``[B*T, width, H/P, W/P]``."""
        videos = pictures.unflatten(0, (-1, self.frames)).transpose(1, 2)  # (B*T, 3, H, W) -> (B, 3, T, H, W)
        return super().forward(videos).transpose(1, 2).flatten(0, 1)  # (B, width, T, g, g) -> (B*T, width, g, g)


def use_temporal_patches(vision: nn.Module) -> TemporalPatchEmbedding:
    """Replaces the transformer's 2D patch embedding by an inflated one, and returns that."""
    for module in vision.modules():
        flat = getattr(module, "patch_embedding", None)
        if isinstance(flat, nn.Conv2d):
            module.patch_embedding = TemporalPatchEmbedding.inflate(flat)
            return module.patch_embedding
    raise ConfigError(f"{type(vision).__name__} has no 2D patch_embedding to make 3D")
