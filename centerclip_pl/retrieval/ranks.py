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

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval.rankable import check_map, check_matrix, refuse_nan

TieRule = Literal["mean", "legacy"]

_PAIRS_AT_ONCE = 2**20


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
    check_matrix(similarity, video_of_text)
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
    check_map(video_of_text, num_texts, num_videos)
    if chunk_size < 1:
        raise ConfigError(f"chunk_size is {chunk_size}, but must be at least 1")
    own_video = video_of_text.cpu()
    groups = _Groups.of(own_video)
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
        refuse_nan(scores, part.start, text_ids, video_ids)
        return _comparable(scores)

    def count(scores: Tensor, part: slice, queries: Tensor) -> None:
        mark = own[queries].to(scores)  # back to the dtype that it came from
        with_itself = (own_video[queries] >= part.start) & (own_video[queries] < part.stop)
        ahead[queries] += _ahead_in_rows(scores, mark, queries) - with_itself.double() / 2

    parts = [slice(start, min(start + chunk_size, num_videos)) for start in range(0, num_videos, chunk_size)]
    for part in parts:
        scores = scored(part)
        inside = ((own_video >= part.start) & (own_video < part.stop)).nonzero()[:, 0]
        rows, columns = inside.to(scores.device), (own_video[inside] - part.start).to(scores.device)
        own[inside] = scores[rows, columns].cpu().double()
        count(scores, part, (own_video < part.stop).nonzero()[:, 0])
        v2t.append(_group_ranks(scores, groups, part))
        del scores  # before the next are made
    for part in parts[:-1]:
        not_yet = (own_video >= part.stop).nonzero()[:, 0]
        if len(not_yet):
            count(scored(part), part, not_yet)
    return Ranks(1 + ahead, torch.cat(v2t), groups.owners)


class _Groups(NamedTuple):
    """The texts by their videos; on the CPU."""

    owners: Tensor
    """int64 ``[M]``: the videos that have texts, ascending."""
    of_text: Tensor
    """int64 ``[Q]``: where in `owners` each text's video is."""
    text: Tensor | None
    """int64 ``[M]``: the one text of each of these videos; None where one has several."""

    @classmethod
    def of(cls, own_video: Tensor) -> _Groups:
        owners, of_text = own_video.unique(return_inverse=True)
        return cls(owners, of_text, of_text.argsort() if len(owners) == len(own_video) else None)


def _group_ranks(scores: Tensor, groups: _Groups, part: slice) -> Tensor:
    """Video to text for the videos of one chunk: scores ``[Q, c]`` -> ranks ``[c']`` of those that have texts."""
    queries = ((groups.owners >= part.start) & (groups.owners < part.stop)).nonzero()[:, 0]  # (c'): their positions
    if len(queries) < part.stop - part.start:
        scores = scores[:, (groups.owners[queries] - part.start).to(scores.device)]  # (Q, c')
    if groups.text is None:
        scores, right = _best_of_groups(scores, groups.of_text, len(groups.owners)), queries  # (M, c')
    else:
        right = groups.text[queries]
    own = scores.gather(0, right[None].to(scores.device))  # (1, c')
    return 1 + _ahead_in_columns(scores, own) - 0.5


def _ahead_in_rows(scores: Tensor, mark: Tensor, rows: Tensor) -> Tensor:
    """How many in each of some rows are above its mark, those that equal it counting one half.

    Some rows at a time, for a sum of booleans makes them int64. Counted in int64: not every accelerator has float64.

    Args:
        scores: ``[Q, c]``.
        mark: ``[q]``.
        rows: int64 ``[q]``, ascending, each once.

    Returns:
        float64 ``[q]``, on the CPU.
    """
    at_once = max(1, _PAIRS_AT_ONCE // max(1, scores.shape[1]))
    everything = len(rows) == len(scores)
    twice = []
    for start in range(0, len(rows), at_once):
        some = slice(start, start + at_once)
        part = scores[some] if everything else scores[rows[some].to(scores.device)]
        twice.append((part > mark[some, None]).sum(1) + (part >= mark[some, None]).sum(1))
    return torch.cat(twice).cpu().double() / 2 if twice else torch.zeros(0, dtype=torch.float64)


def _ahead_in_columns(scores: Tensor, mark: Tensor) -> Tensor:
    """The same for each column: ``[n, c]`` and ``[1, c]`` -> float64 ``[c]``, on the CPU."""
    twice = torch.zeros(scores.shape[1], dtype=torch.int64, device=scores.device)
    for part in scores.split(max(1, _PAIRS_AT_ONCE // max(1, scores.shape[1]))):
        twice += (part > mark).sum(0) + (part >= mark).sum(0)
    return twice.cpu().double() / 2


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
