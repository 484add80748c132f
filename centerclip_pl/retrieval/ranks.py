"""Ranks of the right answers, in both directions, from scores and a map from texts to videos.

Text to video (t2v): each text is a query, all videos are candidates, its own video is right. Video to text (v2t):
each video that has texts is a query, the groups of texts of one video are candidates with the score of their best
text (so are several captions a video judged by CLIP4Clip, arXiv 2104.08860, on MSVD), its own group is right. A video
without texts is a candidate in t2v, and neither query nor candidate in v2t.

Ranks count from 1. Candidates that tie with the right one share the mean of the places that they take, so that a
model that gives the same score to everything is not rewarded: of 1,000 videos it gets rank 500.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError

TieRule = Literal["mean", "legacy"]


class Ranks(NamedTuple):
    """Ranks from 1, float64, on the CPU."""

    t2v: Tensor
    """``[Q]``: of each text's own video."""
    v2t: Tensor
    """``[M]``: of the own texts of each video that has any."""
    videos: Tensor
    """int64 ``[M]``: those videos, ascending."""


def ranks_from_matrix(similarity: Tensor, video_of_text: Tensor, *, rule: TieRule = "mean") -> Ranks:
    """Ranks from the scores of all pairs.

    Args:
        similarity: ``[Q, V]``, higher is better; NaN is refused, infinities are ordered as numbers.
        video_of_text: int64 ``[Q]``: the column of each text's own video.
        rule: ``"mean"``: a query with ties gets the mean of the places. ``"legacy"``, to compare with numbers that the
            published implementations report: such a query counts once for each place, and one whose own score is not
            finite not at all, so that there may be more or fewer ranks than queries, in another order than the queries.

    Raises:
        ConfigError: shapes, indices or a rule that do not fit.
        NonFiniteError: NaN (not with ``"legacy"``); names the first text and video.
    """
    _check_matrix(similarity, video_of_text)
    if rule == "legacy":
        return _legacy_ranks(similarity, video_of_text)
    if rule != "mean":
        raise ConfigError(f"rule is {rule!r}", "choose 'mean' or 'legacy'")
    queries, videos = similarity.shape
    return ranks_in_chunks(lambda part: similarity[:, part], queries, videos, video_of_text, chunk_size=videos)


@torch.no_grad()
def ranks_in_chunks(
    score: Callable[[slice], Tensor],
    num_texts: int,
    num_videos: int,
    video_of_text: Tensor,
    chunk_size: int,
    *,
    text_ids: Tensor | None = None,
    video_ids: Tensor | None = None,
) -> Ranks:
    """Ranks from scores that are computed for some videos at a time: memory grows with texts x chunk.

    With more than one chunk, all but the last are scored twice: a text can be ranked among the videos of a chunk only
    once its own score is known. That score comes from the own video's chunk, so that ties stay exact; `score` must
    give the same numbers when asked again.

    Args:
        score: a slice of the videos -> scores ``[Q, c]``, higher is better.
        num_texts: Q.
        num_videos: V.
        video_of_text: int64 ``[Q]``, 0 to V - 1.
        chunk_size: how many videos at a time.
        text_ids, video_ids: ``[Q]`` and ``[V]``, by which error messages call them; by default their positions.

    Raises:
        ConfigError: shapes, sizes or indices that do not fit.
        NonFiniteError: NaN among the scores; names the text and the video.
    """
    _check_map(video_of_text, num_texts, num_videos)
    if chunk_size < 1:
        raise ConfigError(f"chunk_size is {chunk_size}, but must be at least 1")
    own_video = video_of_text.cpu()
    owners, group = own_video.unique(return_inverse=True)  # (M), (Q)
    own = torch.zeros(num_texts, dtype=torch.float64)  # each text's score of its own video, filled chunk by chunk
    ahead = torch.zeros(num_texts, dtype=torch.float64)  # videos ahead of it, those that tie counting one half
    v2t = []

    def scored(part: slice) -> Tensor:
        scores = score(part)
        if scores.shape != (num_texts, part.stop - part.start):
            raise ConfigError(
                f"the scores of {num_texts} texts and videos {part.start} to {part.stop - 1} have the shape "
                f"{list(scores.shape)}",
                f"a similarity returns [texts, videos], here [{num_texts}, {part.stop - part.start}]",
            )
        _refuse_nan(scores, part.start, text_ids, video_ids)
        return _comparable(scores)

    def count(scores: Tensor, part: slice, queries: Tensor) -> None:
        if len(queries) < num_texts:
            scores = scores[queries.to(scores.device)]
        mark = own[queries, None].to(scores)  # back to the dtype that it came from
        with_itself = (own_video[queries] >= part.start) & (own_video[queries] < part.stop)
        ahead[queries] += _count(scores > mark, 1) + (_count(scores == mark, 1) - with_itself.double()) / 2

    parts = [slice(start, min(start + chunk_size, num_videos)) for start in range(0, num_videos, chunk_size)]
    for part in parts:
        scores = scored(part)
        inside = ((own_video >= part.start) & (own_video < part.stop)).nonzero()[:, 0]
        rows, columns = inside.to(scores.device), (own_video[inside] - part.start).to(scores.device)
        own[inside] = scores[rows, columns].cpu().double()
        count(scores, part, (own_video < part.stop).nonzero()[:, 0])
        v2t.append(_group_ranks(scores, group, owners, part))
        del scores  # before the next are made
    for part in parts[:-1]:
        not_yet = (own_video >= part.stop).nonzero()[:, 0]
        if len(not_yet):
            count(scored(part), part, not_yet)
    return Ranks(1 + ahead, torch.cat(v2t), owners)


def _group_ranks(scores: Tensor, group: Tensor, owners: Tensor, part: slice) -> Tensor:
    """Video to text for the videos of one chunk: scores ``[Q, c]`` -> ranks ``[c']`` of those that have texts."""
    queries = ((owners >= part.start) & (owners < part.stop)).nonzero()[:, 0]  # (c'): their positions in `owners`
    columns = scores[:, (owners[queries] - part.start).to(scores.device)]  # (Q, c')
    best = _best_of_groups(columns, group, len(owners))  # (M, c')
    own = best.gather(0, queries[None].to(best.device))  # (1, c')
    return 1 + _count(best > own, 0) + (_count(best == own, 0) - 1) / 2


def _count(mask: Tensor, dim: int) -> Tensor:
    return mask.sum(dim).cpu().double()  # in this order: not every accelerator has float64


def _best_of_groups(scores: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Highest score among the texts of each group: ``[Q, c]`` -> ``[M, c]``."""
    index = group.to(scores.device)[:, None].expand(-1, scores.shape[1])
    lowest = scores.new_full((num_groups, scores.shape[1]), -float("inf"))
    return lowest.scatter_reduce_(0, index, scores, "amax")


def _legacy_ranks(similarity: Tensor, video_of_text: Tensor) -> Ranks:
    """A place for each candidate whose score minus the own score is zero: ties count several times, NaN not at all."""
    scores, own_video = _comparable(similarity), video_of_text.to(similarity.device)
    owners, group = own_video.unique(return_inverse=True)
    columns = _best_of_groups(scores[:, owners], group, len(owners)).mT  # (M, M): video, group

    def places(scores: Tensor, right: Tensor) -> Tensor:
        own = scores.gather(1, right[:, None])
        first = (scores > own).sum(1)
        times = (scores - own == 0).sum(1)
        before = times.cumsum(0) - times  # ranks of earlier queries
        offset = torch.arange(int(times.sum()), device=scores.device) - before.repeat_interleave(times)
        return (1 + first.repeat_interleave(times) + offset).double().cpu()

    t2v, v2t = places(scores, own_video), places(columns, torch.arange(len(owners), device=scores.device))
    return Ranks(t2v, v2t, owners.cpu())


def _comparable(scores: Tensor) -> Tensor:
    """Scores with a dtype that knows infinity and is compared without loss."""
    if scores.dtype in (torch.float16, torch.bfloat16):
        return scores.float()
    return scores if scores.is_floating_point() else scores.double()


def _refuse_nan(scores: Tensor, first_video: int, text_ids: Tensor | None, video_ids: Tensor | None) -> None:
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


def _check_matrix(similarity: Tensor, video_of_text: Tensor) -> None:
    if similarity.ndim != 2 or similarity.is_complex():
        raise ConfigError(
            f"a similarity of shape {list(similarity.shape)} and dtype {similarity.dtype} cannot be ranked",
            "pass a real matrix [texts, videos]",
        )
    _check_map(video_of_text, *similarity.shape)


def _check_map(video_of_text: Tensor, num_texts: int, num_videos: int) -> None:
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
