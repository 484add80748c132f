"""What travels between the parts of the package, with shapes and dtypes."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from torch import Tensor


class Batch(TypedDict):
    """What a datamodule's loaders yield, in training, evaluation and prediction alike.

    In training there is one caption a video (``Q == B``, ``video_of_text == video_ids``). In evaluation a batch holds B
    videos, each once, with all their captions (``Q >= 0``); in prediction without captions ``Q == 0``.
    """

    frames: Tensor
    """uint8 ``[B, T, 3, H, W]``, RGB, resized and cropped, not normalised."""
    frame_mask: Tensor
    """bool ``[B, T]``, True where the frame is real, False where the last one is repeated to fill T."""
    video_ids: Tensor
    """int64 ``[B]``: row of the video in the split's list of videos (``datamodule.videos(split)``)."""
    input_ids: Tensor
    """int64 ``[Q, L]``: start token, words, end token, padding."""
    attention_mask: Tensor
    """int64 ``[Q, L]``: 1 up to and including the end token."""
    text_ids: Tensor
    """int64 ``[Q]``: row of the caption in the split's caption table."""
    video_of_text: Tensor
    """int64 ``[Q]``: for each caption, the ``video_ids`` value of the video that it describes."""


class VideoEmbedding(NamedTuple):
    """A video after the vision tower."""

    segments: Tensor
    """float ``[B, S, D]``: one embedding a segment, not normalised. Without clustering a segment is a frame."""
    mask: Tensor
    """bool ``[B, S]``: True where the segment counts."""
