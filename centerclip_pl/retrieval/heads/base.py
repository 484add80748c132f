"""What every similarity head is: a small module that compares texts with the segments of videos."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.types import VideoEmbedding


class Head(nn.Module, ABC):
    """Base of the heads of CLIP4Clip (arXiv 2104.08860, section 3.3).

    What segments that do not count hold never matters, not even NaN. Weights and inputs in float64 are computed in
    float64 (but for the softmax of the attention implementation "eager", for which transformers uses float32). Scores
    come in float32 at least, also under autocast.
    """

    pairwise: ClassVar[bool] = False
    """Each pair of text and video passes through a network, so a score costs far more than a product of vectors, and
    an evaluation had better keep scores than ask for them twice, and in training each process computes its own texts'
    rows of the global batch."""

    recompute: bool = False
    """In training, a pairwise head keeps no activations and computes them again in the backward pass."""

    @classmethod
    @abstractmethod
    def from_clip(cls, text_model: CLIPTextModel, dim: int) -> Self:
        """A head that starts from CLIP as far as it can.

        Args:
            text_model: CLIP's text transformer; its weights are copied.
            dim: D, channels of the texts and segments that will come.
        """

    @abstractmethod
    def forward(self, text: Tensor, video: VideoEmbedding, logit_scale: Tensor) -> Tensor:
        """Scores every text with every video.

        Args:
            text: float ``[Q, D]``, not normalised; Q may be 0.
            video: float segments ``[B, S, D]``, not normalised, and mask ``[B, S]``; B may be 0.
            logit_scale: CLIP's parameter, the logarithm of the factor on cosines; scalar.

        Returns:
            Logits, float32 (float64 for float64 inputs) ``[Q, B]``.

        Raises:
            ConfigError: shapes that do not fit together or the head.
            NonFiniteError: a video of which no segment counts.
        """


def check_inputs(text: Tensor, video: VideoEmbedding, dim: int) -> VideoEmbedding:
    """Refuses what a head of `dim` channels cannot compare.

    Returns:
        The videos with zeros in place of segments that do not count and a bool mask. Zeros, because a weight of zero
        does not silence NaN, neither forwards nor in the gradient.

    Raises:
        ConfigError, NonFiniteError: see `Head.forward`.
    """
    segments, mask = video.segments, video.mask.bool()
    if segments.ndim != 3 or mask.shape != segments.shape[:2]:
        raise ConfigError(
            f"segments of shape {list(segments.shape)} and a mask of shape {list(mask.shape)} do not fit together",
            "pass segments [videos, segments, channels] and a mask [videos, segments]",
        )
    if text.ndim != 2 or text.shape[1] != dim or segments.shape[2] != dim:
        raise ConfigError(
            f"texts of shape {list(text.shape)} and segments of shape {list(segments.shape)} do not fit a similarity "
            f"head of {dim} channels",
            f"pass texts [texts, {dim}] and segments [videos, segments, {dim}]",
        )
    empty = ~mask.any(dim=1)
    if empty.any():
        raise NonFiniteError(
            f"video {int(empty.nonzero()[0])} of the batch has no segment that counts: there is nothing to compare",
            "pass a mask with at least one True a video; see segment_mask for clips shorter than a segment",
        )
    return VideoEmbedding(segments.masked_fill(~mask[..., None], 0.0), mask)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
