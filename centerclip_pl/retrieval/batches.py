"""What one batch of an evaluation may look like."""

from __future__ import annotations

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.types import VideoEmbedding

_AT_ONCE = 2**21  # numbers that are checked at a time: a check needs as much memory as they take


def check_batch(
    text: Tensor, text_ids: Tensor, video_of_text: Tensor, video: VideoEmbedding, video_ids: Tensor
) -> VideoEmbedding:
    """Refuses embeddings that cannot be ranked, by the ids of their texts and videos.

    Args:
        text: float ``[q, D]``.
        text_ids, video_of_text: int64 ``[q]``.
        video: float segments ``[b, S, D]`` and mask ``[b, S]``.
        video_ids: int64 ``[b]``.

    Returns:
        The videos with zeros in place of segments that do not count, which may hold anything; where all count, the same
        tensors.

    Raises:
        ConfigError: shapes or dtypes that do not fit.
        NonFiniteError: NaN or infinity in an embedding, or a video without any segment that counts.
    """
    segments, mask = video.segments, video.mask.bool()
    _check_shapes(text, segments, mask, text_ids=text_ids, video_of_text=video_of_text, video_ids=video_ids)
    if not mask.all():
        segments = segments.masked_fill(~mask[..., None], 0.0)
    _refuse_non_finite("text", text_ids, text)
    _refuse_non_finite("video", video_ids, segments)
    _refuse_empty(video_ids, mask)
    return VideoEmbedding(segments, mask)


def _check_shapes(text: Tensor, segments: Tensor, mask: Tensor, **ids: Tensor) -> None:
    if text.ndim != 2 or segments.ndim != 3 or mask.shape != segments.shape[:2]:
        raise ConfigError(
            f"text {list(text.shape)}, segments {list(segments.shape)} and mask {list(mask.shape)} do not fit",
            "pass text [q, D], segments [b, S, D] and mask [b, S]",
        )
    for name, values in ids.items():
        count = len(segments) if name == "video_ids" else len(text)
        if values.dtype != torch.int64 or values.shape != (count,):
            raise ConfigError(
                f"{name} has the shape {list(values.shape)} and dtype {values.dtype}", f"pass {count} int64 numbers"
            )


def _refuse_non_finite(what: str, ids: Tensor, embeddings: Tensor) -> None:
    rows = max(1, _AT_ONCE // max(1, embeddings[:1].numel()))
    for some_ids, some in zip(ids.split(rows), embeddings.split(rows), strict=True):
        bad = ~some.isfinite().flatten(1).all(dim=1)
        if bad.any():
            raise NonFiniteError(
                f"the embedding of {what} {int(some_ids[bad][0])} holds NaN or infinity",
                "it cannot be ranked: check the checkpoint, or evaluate in 32-bit precision",
            )


def _refuse_empty(video_ids: Tensor, mask: Tensor) -> None:
    empty = ~mask.any(dim=1)
    if empty.any():
        raise NonFiniteError(
            f"video {int(video_ids[empty][0])} has no segment that counts",
            "it cannot be ranked: see segment_mask for clips shorter than a segment",
        )
