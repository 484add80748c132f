"""Captions that several videos share, and the greatest recall that they leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd


class Repeats(NamedTuple):
    """Captions that several videos of a split share."""

    captions: int
    """How many captions another video has too."""
    videos: int
    """How many videos have such a caption."""
    examples: list[tuple[str, int]]
    """The most frequent ones, and how many videos have them."""
    best_recall: float
    """Text to video: the greatest share of captions, in %, whose video can come first (R@1)."""
    best_recall_cut: float | None
    """The same with the captions as the model gets them, cut at ``max_words``; None where there is no tokenizer."""


def find_repeats(table: pd.DataFrame, ids: Mapping[str, tuple[int, ...]] | None, max_words: int) -> Repeats:
    """Captions that several videos have: the same words, in capitals or not and however spaced.

    A model gives equal captions the same ranking of the videos, so of those that belong to different videos only those
    of one video can find theirs first. ``best_recall`` is what remains of R@1 for a perfect model.

    Args:
        table: the captions of a split.
        ids: the token ids of each caption without start and end token; None where there is no tokenizer.
        max_words: tokens that the model takes of a caption, start and end token included.
    """
    texts = [" ".join(caption.lower().split()) for caption in table["caption"]]
    names = table["video_id"].tolist()
    videos_of: dict[str, Counter[str]] = {}
    for text, name in zip(texts, names, strict=True):
        videos_of.setdefault(text, Counter())[name] += 1
    shared = {text: videos for text, videos in videos_of.items() if len(videos) > 1}
    examples = sorted(((text, len(videos)) for text, videos in shared.items()), key=lambda pair: (-pair[1], pair[0]))
    cut = None if ids is None else [ids[caption][: max_words - 2] for caption in table["caption"]]
    return Repeats(
        captions=sum(sum(videos.values()) for videos in shared.values()),
        videos=len({name for videos in shared.values() for name in videos}),
        examples=examples[:10],
        best_recall=best_recall(texts, names),
        best_recall_cut=None if cut is None else best_recall(cut, names),
    )


def best_recall(queries: Sequence[Hashable], videos: Sequence[str]) -> float:
    """The greatest share of queries, in %, whose video can come first, where equal queries rank alike.

    Args:
        queries: as the model gets them; at least one.
        videos: the video of each.

    >>> best_recall(["a dog", "a dog", "a cat"], ["1", "2", "3"])
    66.66666666666667
    """
    videos_of: dict[Hashable, Counter[str]] = {}
    for query, video in zip(queries, videos, strict=True):
        videos_of.setdefault(query, Counter())[video] += 1
    return 100 * sum(max(found.values()) for found in videos_of.values()) / len(queries)
