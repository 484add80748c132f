"""Segments by averaging frames: a method that CenterCLIP (arXiv 2205.00823) compares with."""

from __future__ import annotations

from torch import Tensor

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.reducer import SegmentReducer
from centerclip_pl.tokens.segments import frames_per_segment


class SegmentPooling(SegmentReducer):
    """The mean, over the frames of a segment, of the tokens in the same position, CLS included.

    Args:
        after_block: how many blocks run before it.
        segments: S, segments of a video.
        clusters: as many patch tokens as a frame has are kept, so this may be left out; another number is refused.
    """

    name = "segment pooling"

    def __init__(self, after_block: int, segments: int, clusters: int | None = None) -> None:
        super().__init__(after_block, segments)
        self.clusters = clusters

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """``[B*frames, 1 + N, C]`` -> ``[B*S, 1 + N, C]``; see `Reducer.forward`."""
        each = frames_per_segment(frames, self.segments)
        return tokens.unflatten(0, (-1, each)).mean(dim=1)  # (B*T, 1+N, C) -> (B*S, D, 1+N, C) -> (B*S, 1+N, C)

    def patches_out(self, frames: int, patches: int) -> int:
        """N; see `SegmentReducer.patches_out`."""
        if self.clusters not in (None, patches):
            raise ConfigError(
                f"{type(self).__name__}: clusters is {self.clusters}, but pooling keeps all {patches} of a frame",
                f"leave clusters out, or set it to {patches}",
            )
        return patches
