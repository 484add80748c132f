"""The text tower: CLIP's text transformer and its projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from centerclip_pl.errors import ConfigError


class TextTower(nn.Module):
    """Token ids of captions to embeddings.

    Args:
        text: CLIP's text transformer.
        projection: from its width to the shared space.
    """

    def __init__(self, text: CLIPTextModel, projection: nn.Linear) -> None:
        super().__init__()
        self.text = text
        self.projection = projection

    @property
    def context_length(self) -> int:
        """Most tokens of a caption, start and end token included."""
        return int(self.text.config.max_position_embeddings)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embeds captions.

        Args:
            input_ids: int64 ``[Q, L]``: start token, words, end token, padding.
            attention_mask: int64 or bool ``[Q, L]``: 1 up to and including the end token.

        Returns:
            float ``[Q, D]``, not normalised: the feature at the end token, projected.

        Raises:
            ConfigError: if captions are longer than the transformer's context.
        """
        if input_ids.shape[1] > self.context_length:
            raise ConfigError(
                f"captions have {input_ids.shape[1]} tokens, but the text transformer takes {self.context_length}",
                f"set max_words to at most {self.context_length}",
            )
        # Attention is causal and padding comes last, so the end token never sees padding: no padding mask is needed,
        # and without one the fast causal kernel is used.
        states = self.text(input_ids=input_ids).last_hidden_state  # (Q, L, width)
        end = attention_mask.long().sum(dim=1) - 1
        embedded: Tensor = self.projection(states[torch.arange(len(states), device=states.device), end])
        return embedded
