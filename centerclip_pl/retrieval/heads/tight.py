"""The head that looks at each text and video together: "tightTransf" (CLIP4Clip, arXiv 2104.08860, section 3.3)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig
from transformers.activations import QuickGELUActivation

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval.heads.base import at_least_float32, check_inputs
from centerclip_pl.retrieval.heads.transformer import LAYER_NORM_EPS, LAYERS, Transformer
from centerclip_pl.types import VideoEmbedding

INITIAL_STD = 0.02
"""Of the weights of new linear layers, as published; their biases start at zero."""


class TightTransformer(Transformer):
    """``tightTransf``: a transformer over the text and the segments of a video, one sequence a pair.

    The text stands at position 0, the segments follow, each at its place in the clip. Then layer norm, the first token,
    a linear layer with QuickGELU, and a linear layer to the score. Nothing is normalised before, and the scores are
    not scaled: ``logit_scale`` is not used and gets no gradient.

    Memory in float32, measured: about ``16 * (1 + S) * D`` numbers for each of `pairs_at_a_time` without gradients (0.4
    GiB for 1,024 pairs of 12 segments and 512 channels); with them, the activations of all pairs are kept, about
    ``85 * (1 + S) * D`` numbers each for 4 layers (0.5 GiB for 16 texts and 16 such videos).

    Args:
        dim, layers, heads, positions, like: see `Transformer`; a video may have one segment less than `positions`.
        dropout: of the sequences, in training.
        pairs_at_a_time: how many pairs pass through the transformer together. But for rounding (and for which elements
            dropout drops) the result does not depend on it.

    Raises:
        ConfigError: numbers that do not fit together.
    """

    local_batch: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        layers: int = LAYERS,
        heads: int | None = None,
        positions: int = 77,
        like: CLIPTextConfig | None = None,
        *,
        dropout: float = 0.1,
        pairs_at_a_time: int = 1024,
    ) -> None:
        super().__init__(dim, layers, heads, positions, like)
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout is {dropout}, but must be a share, 0 to below 1")
        if pairs_at_a_time < 1:
            raise ConfigError(f"pairs_at_a_time is {pairs_at_a_time}, but must be at least 1")
        self.pairs_at_a_time = pairs_at_a_time
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.dense = nn.Linear(dim, dim)
        self.activation = QuickGELUActivation()
        self.score = nn.Linear(dim, 1)
        for linear in (self.dense, self.score):
            nn.init.normal_(linear.weight, std=INITIAL_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, text: Tensor, video: VideoEmbedding, logit_scale: Tensor) -> Tensor:
        """See `Head.forward`."""
        segments, mask = check_inputs(text, video, self.dim)
        queries, videos = len(text), len(segments)
        positions = self.first_positions(1 + segments.shape[1])
        text = text.to(self.dtype) + positions[0]  # (Q, D)
        segments = segments.to(self.dtype) + positions[1:]  # (B, S, D)
        counts = torch.cat([mask.new_ones(videos, 1), mask], dim=1)  # (B, 1 + S): a text always counts
        scores = []
        for pairs in torch.arange(queries * videos, device=text.device).split(self.pairs_at_a_time):
            query, candidate = pairs // videos, pairs % videos  # (P), (P)
            tokens = torch.cat([text[query][:, None], segments[candidate]], dim=1)  # (P, 1 + S, D)
            scores.append(self._scores(tokens, counts[candidate]))
        return torch.cat(scores).view(queries, videos)

    def _scores(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """``[P, 1 + S, D]`` and bool ``[P, 1 + S]`` -> ``[P]``."""
        first = self.attend(self.dropout(tokens), counts)[:, 0]  # (P, D)
        # Autocast ends here: bfloat16 has 8 bits, and the scores of a large gallery would tie.
        with torch.autocast(first.device.type, enabled=False):
            pooled = self.activation(self.dense(self.norm(first.to(self.dtype))))
            return at_least_float32(self.score(pooled)[:, 0])
