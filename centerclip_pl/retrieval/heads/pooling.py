"""The heads whose video is one vector: "meanP", and "seqLSTM" and "seqTransf", which look at the order of segments.

CLIP4Clip (arXiv 2104.08860, section 3.3) calls the first parameter-free and the others sequential.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from centerclip_pl.retrieval.heads.base import Head, at_least_float32, check_inputs
from centerclip_pl.retrieval.heads.transformer import Transformer
from centerclip_pl.retrieval.similarity import cosine_logits
from centerclip_pl.types import VideoEmbedding


class MeanPooling(Head):
    """``meanP``: cosine of the text and the mean of the normalised segments; no weights.

    See `centerclip_pl.retrieval.cosine_logits`.
    """

    @classmethod
    def from_clip(cls, text_model: CLIPTextModel, dim: int) -> Self:
        """The head; there is nothing to start from."""
        return cls()

    def forward(self, text: Tensor, video: VideoEmbedding, logit_scale: Tensor) -> Tensor:
        """See `Head.forward`."""
        return cosine_logits(text, video, logit_scale)


class _Sequential(Head):
    """A network over the segments in their order, plus its input, and then as `MeanPooling`."""

    dim: int

    def forward(self, text: Tensor, video: VideoEmbedding, logit_scale: Tensor) -> Tensor:
        """See `Head.forward`."""
        segments, mask = check_inputs(text, video, self.dim)
        # The sum in float32, so that under autocast the network may be coarse without making its input coarse.
        ordered = at_least_float32(segments) + self.in_order(segments, mask)
        return cosine_logits(text, VideoEmbedding(ordered, mask), logit_scale)

    @abstractmethod
    def in_order(self, segments: Tensor, mask: Tensor) -> Tensor:
        """What the network adds: ``[B, S, D]`` and bool ``[B, S]`` -> ``[B, S, D]``, anything where masked."""


class SequentialLSTM(_Sequential):
    """``seqLSTM``: an LSTM of one layer over the segments that count, in their order, plus its input; then as meanP.

    Segments that do not count are skipped, wherever they stand. The weights start as torch starts an LSTM's.

    Args:
        dim: D, channels of texts and segments.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.lstm = nn.LSTM(dim, dim, batch_first=True)

    @classmethod
    def from_clip(cls, text_model: CLIPTextModel, dim: int) -> Self:
        """The head; CLIP has nothing that an LSTM could start from."""
        return cls(dim)

    def in_order(self, segments: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        if len(segments) == 0:  # which nn.LSTM refuses
            return segments
        # Those that count come first, in their order. The rest follow and cannot reach back, so nothing needs packing,
        # for which lengths would have to be on the CPU.
        order = torch.argsort((~mask).int(), dim=1, stable=True)[..., None].expand_as(segments)  # (B, S, D)
        states, _ = self.lstm(segments.gather(1, order).to(next(self.lstm.parameters()).dtype))
        return torch.empty_like(states).scatter(1, order, states)


class SequentialTransformer(_Sequential, Transformer):
    """``seqTransf``: segments with learned positions through a transformer, plus its input; then as meanP.

    The position of a segment is its place in the clip, also where earlier ones do not count. Attention goes both ways.

    Args:
        dim, layers, heads, positions, like: see `Transformer`.
    """

    def in_order(self, segments: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        return self.attend(segments.to(self.dtype) + self.first_positions(segments.shape[1]), mask)
