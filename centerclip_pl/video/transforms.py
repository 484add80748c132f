"""Frames to the size that the model wants. uint8 in, uint8 out; normalising is the model's own first step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from centerclip_pl.errors import ConfigError


def resize_and_crop(frames: Tensor, size: int) -> Tensor:
    """Resize the shorter side to ``size`` (bicubic, antialiased, as CLIP's preprocessing), then cut the centre out.

    Within one grey level of what Pillow's ``resize(..., BICUBIC)`` gives, from which CLIP learnt. (On uint8: on floats
    torch does not clip between its two passes as Pillow does, and hard edges differ by more than ten levels.)

    Args:
        frames: uint8 ``[T, 3, H, W]``, any memory layout.
        size: height and width of the result, in pixels.

    Returns:
        uint8 ``[T, 3, size, size]``, contiguous.

    Raises:
        ConfigError: ``size`` is below 1, or ``frames`` is not uint8 with 4 dimensions.
    """
    if size < 1:
        raise ConfigError(f"image_size={size}: must be at least 1", "use the image size of the backbone, e.g. 224")
    if frames.dtype != torch.uint8 or frames.ndim != 4:
        raise ConfigError(f"frames must be uint8 [T, 3, H, W]; got {frames.dtype} {list(frames.shape)}")
    height, width = frames.shape[-2:]
    if min(height, width) != size:
        # The longer side is rounded down and is never below the shorter one, so the crop always fits.
        scaled = max(size, size * max(height, width) // min(height, width))
        target = (scaled, size) if height >= width else (size, scaled)
        frames = functional.interpolate(frames, size=target, mode="bicubic", antialias=True)
    height, width = frames.shape[-2:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return frames[:, :, top : top + size, left : left + size].contiguous()
