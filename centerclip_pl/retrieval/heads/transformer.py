"""What "seqTransf" and "tightTransf" share: learned positions and a few of CLIP's layers, which may start from CLIP."""

from __future__ import annotations

import warnings
from typing import Self

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval.heads.base import Head

LAYERS = 4
"""Of the transformers in CLIP4Clip (arXiv 2104.08860, experimental details)."""

PADDING = -1e6
"""Added to the attention scores of what does not count, as published: a weight of exactly zero in any precision."""

LAYER_NORM_EPS = 1e-12
"""As the published CLIP4Clip has it in these transformers, not the 1e-5 of CLIP's own."""


class Transformer(Head):
    """Base of the heads with a transformer.

    Built alone, its weights are random as CLIP's own would be; `from_clip` copies CLIP's.

    Args:
        dim: D, channels.
        layers: how many.
        heads: of the attention; by default one for each 64 channels, as in CLIP, or the next lower number that divides
            `dim`.
        positions: the longest sequence.
        like: where the attention implementation, the activation and (if its width is `dim`) the width of the MLP come
            from; by default torch's fused attention, QuickGELU and four times `dim`.

    Raises:
        ConfigError: numbers that do not fit together.
    """

    def __init__(
        self,
        dim: int,
        layers: int = LAYERS,
        heads: int | None = None,
        positions: int = 77,
        like: CLIPTextConfig | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("layers", layers), ("heads", heads), ("positions", positions)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} of a similarity head is {value}, but must be at least 1")
        if heads is None:
            heads = next(n for n in range(max(dim // 64, 1), 0, -1) if dim % n == 0)
        if dim % heads:
            raise ConfigError(
                f"{dim} channels cannot be divided among {heads} attention heads", f"choose a divisor of {dim}"
            )
        self.dim = dim
        config = CLIPTextConfig(
            vocab_size=1,  # of its embeddings, only those of positions are wanted
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            hidden_size=dim,
            intermediate_size=like.intermediate_size if like is not None and like.hidden_size == dim else 4 * dim,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=positions,
            hidden_act="quick_gelu" if like is None else like.hidden_act,
            layer_norm_eps=LAYER_NORM_EPS,
            attention_dropout=0.0,
        )
        config._attn_implementation = "sdpa" if like is None else like._attn_implementation
        transformer = CLIPTextModel(config)  # which also draws its weights
        self.positions: nn.Embedding = transformer.embeddings.position_embedding
        self.blocks: nn.ModuleList = transformer.encoder.layers

    @classmethod
    def from_clip(cls, text_model: CLIPTextModel, dim: int) -> Self:
        """A head that starts from the position embeddings and the first layers of CLIP's text transformer.

        It has 4 layers, or as many as the text transformer if that has fewer, and as many attention heads and positions
        as the text transformer.

        Where the text transformer has another width than `dim`, nothing can be copied: a ``UserWarning`` says so, and
        the head starts from random weights, with one attention head for each 64 channels.
        """
        config = text_model.config
        first = text_model.encoder.layers[:LAYERS]
        positions = config.max_position_embeddings
        if config.hidden_size != dim:
            warnings.warn(
                f"the similarity head cannot start from CLIP: its text transformer has {config.hidden_size} channels, "
                f"texts and videos are compared in {dim}. The head starts from random weights.",
                UserWarning,
                stacklevel=3,
            )
            return cls(dim, len(first), None, positions, config)
        head = cls(dim, len(first), config.num_attention_heads, positions, config)
        head.positions.load_state_dict(text_model.embeddings.position_embedding.state_dict())
        head.blocks.load_state_dict(first.state_dict())
        return head

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.positions.weight.dtype

    def first_positions(self, length: int) -> Tensor:
        """Position embeddings ``[length, D]``; ConfigError if there are fewer."""
        if length > self.positions.num_embeddings:
            raise ConfigError(
                f"the similarity head has {self.positions.num_embeddings} positions, but a video needs {length}",
                "take fewer frames a video, reduce them to fewer segments, or use the head meanP or seqLSTM",
            )
        return self.positions.weight[:length]

    def attend(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Through the layers, each token seeing all that count, before and after it.

        Args:
            tokens: ``[N, L, D]``, finite also where they do not count.
            counts: bool ``[N, L]``, at least one True a row.

        Returns:
            ``[N, L, D]``; where a token does not count, of no meaning.
        """
        if len(tokens) == 0:  # which CLIP's attention cannot reshape
            return tokens
        lowest = max(PADDING, torch.finfo(tokens.dtype).min)  # float16 ends at -65504, which does as well
        bias = torch.zeros_like(counts, dtype=tokens.dtype).masked_fill(~counts, lowest)[:, None, None]  # (N, 1, 1, L)
        for block in self.blocks:
            tokens = block(tokens, bias)
        return tokens
