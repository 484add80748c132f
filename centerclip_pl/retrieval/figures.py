"""R@k, median and mean rank of a similarity matrix, and the tables in which ranks and scores come with their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.retrieval.ranks import Ranks, TieRule, ranks_from_matrix

KS = (1, 5, 10)


def retrieval_metrics(
    similarity: Tensor, video_of_text: Tensor, *, ks: Sequence[int] = KS, rule: TieRule = "mean"
) -> dict[str, float]:
    """Text-to-video and video-to-text metrics of a similarity matrix.

    What counts as a query and a candidate, and how ties are ranked, is told in `centerclip_pl.retrieval.ranks`.

    Args:
        similarity: ``[Q, V]``, higher is better.
        video_of_text: int64 ``[Q]``: the column of each text's own video.
        ks: for R@k.
        rule: ``"legacy"`` for the published implementations' treatment of ties; see `ranks_from_matrix`.

    Returns:
        ``t2v/R@k``, the share of queries with a rank of at most k in percent; ``t2v/MdR``, the median rank (the mean of
        the two in the middle of an even number); ``t2v/MnR``, the mean rank; and the same with ``v2t/``.

    Raises:
        ConfigError: shapes, indices or options that do not fit.
        NonFiniteError: NaN among the scores.
    """
    check_ks(ks)
    ranks = ranks_from_matrix(similarity, video_of_text, rule=rule)
    return both_directions(ranks, ks)


def both_directions(ranks: Ranks, ks: Sequence[int]) -> dict[str, float]:
    """What `retrieval_metrics` returns, of ranks."""
    return {
        f"{direction}/{name}": value
        for direction, of_queries in (("t2v", ranks.t2v), ("v2t", ranks.v2t))
        for name, value in summarise_ranks(of_queries, ks).items()
    }


def summarise_ranks(ranks: Tensor, ks: Sequence[int] = KS) -> dict[str, float]:
    """``R@k``, ``MdR`` and ``MnR``, as in `retrieval_metrics`, of the ranks of one direction.

    Args:
        ranks: ``[Q]``, from 1; at least one.
        ks: for R@k.
    """
    if len(ranks) == 0:  # all rows NaN, which only the legacy rule lets pass
        raise NonFiniteError("no query has a finite score of its own", "check the embeddings and the checkpoint")
    recalls = {f"R@{k}": 100 * (ranks <= k).double().mean().item() for k in ks}
    return {**recalls, "MdR": ranks.quantile(0.5).item(), "MnR": ranks.mean().item()}


def check_ks(ks: Sequence[int]) -> None:
    """
    Raises:
        ConfigError: no k, or one below 1.
    """
    if len(ks) == 0 or min(ks) < 1:
        raise ConfigError(f"ks is {tuple(ks)}, but R@k needs k of at least 1", "1, 5 and 10 are usual")


class RankTable(NamedTuple):
    """Ranks with the ids of their queries; ranks float64 from 1, ids int64, all on the CPU and ordered by id."""

    text_ids: Tensor
    """``[Q]``"""
    t2v: Tensor
    """``[Q]``: rank of each text's own video."""
    video_ids: Tensor
    """``[M]``: the videos that have texts."""
    v2t: Tensor
    """``[M]``: rank of each such video's own texts."""


class ScoreTable(NamedTuple):
    """The scores of all pairs with the ids of their texts and videos, ordered by id, on the CPU."""

    scores: Tensor
    """float ``[Q, V]``, higher is better."""
    text_ids: Tensor
    """int64 ``[Q]``"""
    video_ids: Tensor
    """int64 ``[V]``"""
    video_of_text: Tensor
    """int64 ``[Q]``: the column of each text's own video."""
