"""Channels that move between neighbouring frames: methods that CenterCLIP (arXiv 2205.00823) compares with.

They reduce nothing and cost next to nothing: a comparison for what exchange between frames alone brings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.reducer import Reducer, Site

_SHARE = 8  # an eighth of the channels comes from the next frame, an eighth from the previous one


def shift_channels(tokens: Tensor, frames: int) -> Tensor:
    """Replaces the first eighth of the channels by the next frame's and the second eighth by the previous frame's.

    Args:
        tokens: ``[B*frames, N, C]``, a video's frames in a row.
        frames: T. At a video's ends, where there is no neighbour, the channels become zero.

    Returns:
        ``[B*frames, N, C]``.
    """
    video = tokens.unflatten(0, (-1, frames))  # (B*T, N, C) -> (B, T, N, C)
    fold = tokens.shape[-1] // _SHARE
    nothing = torch.zeros_like(video[:, :1, :, :fold])
    following = torch.cat([video[:, 1:, :, :fold], nothing], dim=1)
    previous = torch.cat([nothing, video[:, :-1, :, fold : 2 * fold]], dim=1)
    return torch.cat([following, previous, video[..., 2 * fold :]], dim=-1).flatten(0, 1)


class TemporalShift(Reducer):
    """Shifts channels of the patch tokens between neighbouring frames, in front of every block."""

    name = "temporal shift"

    def sites(self, blocks: int) -> list[Site]:
        """In front of every block; see `Reducer.sites`."""
        return [Site(block) for block in range(blocks)]

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """``[B*T, 1 + N, C]`` -> the same shape; see `Reducer.forward`."""
        return torch.cat([tokens[:, :1], shift_channels(tokens[:, 1:], frames)], dim=1)

    def shape_out(self, frames: int, patches: int) -> tuple[int, int]:
        """As it comes in; see `Reducer.shape_out`."""
        return _enough(self, frames), patches


class TokenShift(Reducer):
    """Shifts channels of CLS tokens between neighbouring frames, before attention and before the MLP of every block."""

    name = "token shift"

    def sites(self, blocks: int) -> list[Site]:
        """In front of every block and inside it; see `Reducer.sites`."""
        return [site for block in range(blocks) for site in (Site(block), Site(block, "mlp"))]

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """``[B*T, 1 + N, C]`` -> the same shape; see `Reducer.forward`."""
        return torch.cat([shift_channels(tokens[:, :1], frames), tokens[:, 1:]], dim=1)

    def shape_out(self, frames: int, patches: int) -> tuple[int, int]:
        """As it comes in; see `Reducer.shape_out`."""
        return _enough(self, frames), patches


def _enough(reducer: Reducer, frames: int) -> int:
    if frames < 2:
        raise ConfigError(
            f"{type(reducer).__name__}: there is only one frame or segment where it acts, so no neighbour",
            "set num_frames to 2 or more, and let no other reducer leave a single segment",
        )
    return frames
