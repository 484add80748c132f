"""The parameter-free similarity of CLIP4Clip (arXiv 2104.08860, section 3.3, "meanP")."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.types import VideoEmbedding


def pool_segments(video: VideoEmbedding) -> Tensor:
    """One unit vector a video: L2-normalise each segment, mean of those that count, L2-normalise.

    What masked segments hold does not matter, not even NaN. Works in float32 at least.

    Args:
        video: segments ``[B, S, D]``, mask ``[B, S]``.

    Returns:
        float32 (float64 for float64 segments) ``[B, D]``.

    Raises:
        ConfigError: shapes that do not fit together.
        NonFiniteError: a video of which no segment counts, so that the mean would be NaN.
    """
    segments, mask = video.segments, video.mask.bool()
    if segments.ndim != 3 or mask.shape != segments.shape[:2]:
        raise ConfigError(
            f"segments of shape {list(segments.shape)} and a mask of shape {list(mask.shape)} do not fit together",
            "pass segments [videos, segments, channels] and a mask [videos, segments]",
        )
    empty = ~mask.any(dim=1)
    if empty.any():
        raise NonFiniteError(
            f"video {int(empty.nonzero()[0])} of the batch has no segment that counts: its mean would be NaN",
            "pass a mask with at least one True a video; see segment_mask for clips shorter than a segment",
        )
    # Masked before the norm: NaN times zero would still be NaN, in the gradient too.
    units = F.normalize(_at_least_float32(segments).masked_fill(~mask[..., None], 0.0), dim=-1)  # (B, S, D)
    mean = units.sum(dim=1) / mask.sum(dim=1, keepdim=True)  # (B, D)
    return F.normalize(mean, dim=-1)


def cosine_logits(text: Tensor, video: VideoEmbedding, logit_scale: Tensor | float = 0.0) -> Tensor:
    """Cosine of each text with each pooled video, times exp(logit_scale).

    In float32 with autocast off: bfloat16 has 8 bits, and logits of a large gallery would tie.

    Args:
        text: ``[Q, D]``, not necessarily normalised.
        video: segments ``[B, S, D]``, mask ``[B, S]``.
        logit_scale: CLIP's parameter, the logarithm of the factor; 0 gives plain cosines.

    Returns:
        Logits ``[Q, B]``.

    Raises:
        ConfigError, NonFiniteError: as `pool_segments`.
    """
    if text.ndim != 2 or text.shape[-1] != video.segments.shape[-1]:
        raise ConfigError(
            f"texts of shape {list(text.shape)} cannot be compared with segments of shape {list(video.segments.shape)}",
            "pass texts [texts, channels] with as many channels as the segments",
        )
    with torch.autocast(text.device.type, enabled=False):
        pooled = pool_segments(video)
        cosines = F.normalize(_at_least_float32(text), dim=-1) @ pooled.mT  # (Q, D) x (D, B)
        return cosines * (logit_scale.exp() if isinstance(logit_scale, Tensor) else math.exp(logit_scale))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
