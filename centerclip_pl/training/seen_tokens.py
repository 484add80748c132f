"""What a model's reducer sees of videos, and which tokens it keeps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import TokenSelection
from centerclip_pl.tokens.segments import frames_per_segment, split_segments
from centerclip_pl.training.module import TextVideoRetrieval


class SeenTokens(NamedTuple):
    """What came to a reducer, and what it chose."""

    tokens: Tensor
    """float ``[B, S, D*N, C]``: the patch tokens of each segment, frame by frame, on the CPU."""
    kept: Tensor
    """int64 ``[B, S, K]``: which of them go on, ascending."""
    frames_each: int
    """D, frames of a segment."""

    @property
    def patches(self) -> int:
        """N, patch tokens of a frame."""
        return self.tokens.shape[2] // self.frames_each


def choosing_reducer(model: TextVideoRetrieval) -> TokenSelection:
    """The model's first reducer that chooses tokens.

    Raises:
        ConfigError: if it has none.
    """
    for reducer in model.reducers:
        if isinstance(reducer, TokenSelection):
            return reducer
    raise ConfigError(
        "the model has no reducer that chooses tokens",
        "use a checkpoint that was trained with METHOD=kmedoids, spectral or sparse",
    )


def seen_tokens(model: TextVideoRetrieval, frames: Tensor) -> SeenTokens:
    """Which tokens come to the model's first choosing reducer, and which it keeps; the model is left as it was.

    Args:
        model: in evaluation mode, with a reducer that chooses tokens.
        frames: uint8 ``[B, T, 3, H, W]``.

    Raises:
        ConfigError: if the model has no such reducer.
    """
    reducer = choosing_reducer(model)
    seen: list[tuple[Tensor, int]] = []

    def remember(module: nn.Module, args: tuple[Tensor, int]) -> None:
        seen.append(args)

    handle = reducer.register_forward_pre_hook(remember)
    try:
        with torch.inference_mode():
            model.encode_video(frames)
            tokens, coming = seen[0]
            each = frames_per_segment(coming, reducer.segments)
            patches = split_segments(tokens, each)[1]
            indices = reducer.select(patches, each)  # (B*S, K)
    finally:
        handle.remove()
    shape = (len(frames), reducer.segments)
    # Clones: what inference mode made cannot be written to elsewhere.
    kept, tokens = indices.cpu().clone(), patches.float().cpu().clone()
    return SeenTokens(tokens.unflatten(0, shape), kept.unflatten(0, shape), each)  # (B*S, ...) -> (B, S, ...)


def kept_tokens(model: TextVideoRetrieval, frames: Tensor) -> Tensor:
    """Which patches of a video the model's first choosing reducer keeps.

    Args:
        model: with a reducer that chooses tokens.
        frames: uint8 ``[T, 3, H, W]``.

    Returns:
        bool ``[S, T / S, grid, grid]``, true where the patch is a centre of its segment.

    Raises:
        ConfigError: if the model has no such reducer.
    """
    seen, grid = seen_tokens(model, frames.unsqueeze(0)), model.video.grid
    kept = torch.zeros(seen.tokens.shape[1], seen.tokens.shape[2], dtype=torch.bool)
    kept.scatter_(1, seen.kept[0], True)
    return kept.view(-1, seen.frames_each, grid, grid)  # (S, D*N) -> (S, D, grid, grid)
