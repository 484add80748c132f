"""The contrastive loss of CLIP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip_pl.errors import ConfigError


def symmetric_cross_entropy(logits: Tensor) -> Tensor:
    """Mean of the cross entropies of rows and of columns (CLIP, arXiv 2103.00020, figure 3; CLIP4Clip, equation 6).

    Args:
        logits: ``[n, n]``; text i belongs to video i, and every other video is a negative.

    Returns:
        A scalar, float32 (float64 for float64 logits).

    Raises:
        ConfigError: not a square matrix, or an empty one.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1] or logits.shape[0] == 0:
        raise ConfigError(
            f"logits of shape {list(logits.shape)} are not a square matrix",
            "training takes one text a video: text i belongs to video i",
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    diagonal = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.mT, diagonal)) / 2
