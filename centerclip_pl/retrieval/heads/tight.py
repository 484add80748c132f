"""The head that looks at each text and video together: "tightTransf" (CLIP4Clip, arXiv 2104.08860, section 3.3)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextConfig
from transformers.activations import QuickGELUActivation

from centerclip_pl.draws import PAIRS, drawing_for, rows_behind, same_draws_again, uniform
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
    ``85 * (1 + S) * D`` numbers each for 4 layers (0.5 GiB for 16 texts and 16 such videos). With `recompute`, those of
    `pairs_at_a_time` exist at a time, for the price of a second forward pass.

    Args:
        dim, layers, heads, positions, like: see `Transformer`; a video may have one segment less than `positions`.
        dropout: of the sequences, in training.
        pairs_at_a_time: how many pairs pass through the transformer together: whole rows of the scores, or a part of
            one row. But for rounding the result does not depend on it (which elements dropout drops: only where a row
            has more pairs).

    Raises:
        ConfigError: numbers that do not fit together.
    """

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
        columns = max(min(videos, self.pairs_at_a_time), 1)
        rows = max(self.pairs_at_a_time // columns, 1)
        again = self.recompute and torch.is_grad_enabled()
        scores = []
        for first in range(0, queries, rows):
            parts = []
            for column in range(0, videos, columns):
                part = slice(column, column + columns)
                given = text[first : first + rows], segments[part], counts[part], first, column
                if again:
                    parts.append(checkpoint(self._scores, *given, use_reentrant=False, context_fn=same_draws_again))
                else:
                    parts.append(self._scores(*given))
            scores.append(torch.cat(parts, dim=1) if parts else text.new_zeros(len(text[first : first + rows]), 0))
        return torch.cat(scores) if scores else at_least_float32(text.new_zeros(0, videos))

    def _scores(self, text: Tensor, segments: Tensor, counts: Tensor, row: int, column: int) -> Tensor:
        """A block of the scores, from this row and column on.

        ``[q, D]``, ``[b, S, D]`` and bool ``[b, 1 + S]`` -> ``[q, b]``.
        """
        queries, videos = len(text), len(segments)
        tokens = torch.cat([text[:, None, None].expand(-1, videos, 1, -1), segments.expand(queries, -1, -1, -1)], dim=2)
        tokens = self._dropout(tokens, row, column).flatten(0, 1)  # (q, b, 1 + S, D) -> (q*b, 1 + S, D)
        first = self.attend(tokens, counts.repeat(queries, 1))[:, 0]  # (q*b, D)
        # Autocast ends here: bfloat16 has 8 bits, and the scores of a large gallery would tie.
        with torch.autocast(first.device.type, enabled=False):
            pooled = self.activation(self.dense(self.norm(first.to(self.dtype))))
            return at_least_float32(self.score(pooled)[:, 0]).view(queries, videos)

    def _dropout(self, tokens: Tensor, row: int, column: int) -> Tensor:
        """Dropout of ``[q, b, 1 + S, D]``; which elements follows from the rows' places in the global batch."""
        share = self.dropout.p
        if not self.training or share == 0 or tokens.numel() == 0:
            return tokens
        with drawing_for(rows_behind(row)):
            kept = uniform(len(tokens), tokens.shape[1:], tokens.device, part=(PAIRS, column)) >= share
        return tokens * kept / (1 - share)
