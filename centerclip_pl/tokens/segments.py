"""Frames into segments, and back to nothing else: the only place where tokens change their leading dimension.

A video's T frames stand one after another in the batch, so a segment of D = T / S consecutive frames is D consecutive
rows and no function here needs to know how many videos there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError

SEGMENT_MASK_RULES = ("any", "last")


def frames_per_segment(frames: int, segments: int) -> int:
    """D = frames / segments.

    Raises:
        ConfigError: if the division leaves a rest, or either number is below one.
    """
    if frames < 1 or segments < 1:
        raise ConfigError(f"frames ({frames}) and segments ({segments}) must be at least 1")
    if frames % segments:
        divisors = ", ".join(str(d) for d in range(1, frames + 1) if frames % d == 0)
        raise ConfigError(
            f"{frames} frames cannot be divided into {segments} segments of equal length",
            f"choose segments among {divisors}, or another num_frames",
        )
    return frames // segments


def split_segments(tokens: Tensor, frames_each: int) -> tuple[Tensor, Tensor]:
    """Groups the tokens of consecutive frames (CenterCLIP, section 3.2).

    Args:
        tokens: float ``[B*T, 1 + N, C]``, CLS first.
        frames_each: D, frames of a segment.

    Returns:
        The segments' CLS token, the mean over the segment's frames, ``[B*S, 1, C]``; and their patch tokens, frame by
        frame, ``[B*S, D*N, C]``.
    """
    rows, length, channels = tokens.shape
    grouped = tokens.reshape(rows // frames_each, frames_each, length, channels)  # (B*T, 1+N, C) -> (B*S, D, 1+N, C)
    cls = grouped[:, :, :1].mean(dim=1)  # (B*S, 1, C)
    patches = grouped[:, :, 1:].reshape(rows // frames_each, frames_each * (length - 1), channels)  # (B*S, D*N, C)
    return cls, patches


def segment_mask(frame_mask: Tensor, segments: int, rule: str = "any") -> Tensor:
    """Which segments count, from which frames are real.

    Args:
        frame_mask: bool or int ``[B, T]``, true where the frame is real.
        segments: S.
        rule: ``"any"``: a segment counts if any of its frames is real. ``"last"``: if its last frame is, as the
            published CenterCLIP has it; a clip shorter than one segment then has no segment at all.

    Returns:
        bool ``[B, S]``.
    """
    each = frames_per_segment(frame_mask.shape[1], segments)
    grouped = frame_mask.bool().reshape(frame_mask.shape[0], segments, each)  # (B, T) -> (B, S, D)
    if rule == "any":
        return grouped.any(dim=2)
    if rule == "last":
        return grouped[:, :, -1]
    raise ConfigError(f"segment_mask is {rule!r}, but must be one of {', '.join(SEGMENT_MASK_RULES)}")


def take_tokens(patches: Tensor, indices: Tensor) -> Tensor:
    """Picks tokens by index, with gradient to those picked.

    Args:
        patches: ``[G, N, C]``.
        indices: int64 ``[G, K]``.

    Returns:
        ``[G, K, C]``.
    """
    return patches.gather(1, indices.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))


def mean_of_clusters(patches: Tensor, assignments: Tensor, clusters: int) -> Tensor:
    """Mean token of each cluster, with gradient to all of them.

    Args:
        patches: ``[G, N, C]``.
        assignments: int64 ``[G, N]`` in ``[0, clusters)``; every cluster has a member.
        clusters: K.

    Returns:
        ``[G, K, C]``, in the order of the cluster ids.
    """
    groups, _, channels = patches.shape
    # Added one by one, as a GPU may, members in bfloat16 are counted up to 256 only, and what they add is lost alike.
    wide = torch.promote_types(patches.dtype, torch.float32)
    sums = patches.new_zeros(groups, clusters, channels, dtype=wide).scatter_add(
        1, assignments.unsqueeze(-1).expand(-1, -1, channels), patches.to(wide)
    )
    sizes = torch.zeros(groups, clusters, device=patches.device, dtype=wide).scatter_add(
        1, assignments, torch.ones_like(assignments, dtype=wide)
    )
    return (sums / sizes.unsqueeze(-1)).to(patches.dtype)
