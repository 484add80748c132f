"""What can be ranked; everything else is a ConfigError, or a NonFiniteError for NaN."""

from __future__ import annotations

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError


def refuse_nan(scores: Tensor, first_video: int, text_ids: Tensor | None, video_ids: Tensor | None) -> None:
    """Of scores ``[Q, c]`` of the videos from `first_video` on; ids by which the message calls them, or None."""
    bad = scores.isnan()
    if not bad.any():
        return
    text, column = bad.nonzero()[0].tolist()
    video = first_video + column
    text_name = text if text_ids is None else int(text_ids[text])
    video_name = video if video_ids is None else int(video_ids[video])
    raise NonFiniteError(
        f"the similarity of text {text_name} and video {video_name} is NaN",
        "a query with NaN has no rank: check the embeddings of both, and the checkpoint",
    )


def check_matrix(similarity: Tensor, video_of_text: Tensor) -> None:
    """A real matrix ``[Q, V]`` and a map that fits."""
    if similarity.ndim != 2 or similarity.is_complex():
        raise ConfigError(
            f"a similarity of shape {list(similarity.shape)} and dtype {similarity.dtype} cannot be ranked",
            "pass a real matrix [texts, videos]",
        )
    check_map(video_of_text, *similarity.shape)


def check_map(video_of_text: Tensor, num_texts: int, num_videos: int) -> None:
    """int64 ``[Q]``, 0 to V - 1, with at least one text and one video."""
    if num_texts == 0 or num_videos == 0:
        raise ConfigError(f"there are {num_texts} texts and {num_videos} videos", "ranks need at least one of each")
    if video_of_text.dtype != torch.int64 or video_of_text.shape != (num_texts,):
        raise ConfigError(
            f"video_of_text has the shape {list(video_of_text.shape)} and dtype {video_of_text.dtype}",
            f"pass one int64 number for each of the {num_texts} texts (the rows of a similarity)",
        )
    outside = ((video_of_text < 0) | (video_of_text >= num_videos)).nonzero()[:, 0]
    if len(outside):
        text = int(outside[0])
        raise ConfigError(
            f"video_of_text says that text {text} describes video {int(video_of_text[text])}, but there are "
            f"{num_videos} videos",
            f"pass columns of the similarity, 0 to {num_videos - 1}",
        )
