"""Ranks against plain loops over sorted lists; ties, NaN, chunks, several captions a video."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.retrieval import Ranks, ranks_from_matrix, ranks_in_chunks

# --------------------------------------------------------------------------------------- an independent slow reference


def slow_rank(scores: list[float], right: int) -> float:
    """Mean of the places at which the right score stands in the sorted list."""
    places = [place for place, score in enumerate(sorted(scores, reverse=True), start=1) if score == scores[right]]
    return sum(places) / len(places)


def slow_ranks(similarity: list[list[float]], video_of_text: list[int]) -> tuple[list[float], list[float], list[int]]:
    t2v = [slow_rank(row, video) for row, video in zip(similarity, video_of_text, strict=True)]
    owners = sorted(set(video_of_text))
    v2t = []
    for query, video in enumerate(owners):
        groups = [
            max(similarity[text][video] for text in range(len(similarity)) if video_of_text[text] == owner)
            for owner in owners
        ]
        v2t.append(slow_rank(groups, query))
    return t2v, v2t, owners


def assert_ranks(ranks: Ranks, similarity: Tensor, video_of_text: Tensor) -> None:
    t2v, v2t, owners = slow_ranks(similarity.tolist(), video_of_text.tolist())
    assert ranks.t2v.tolist() == t2v
    assert ranks.v2t.tolist() == v2t
    assert ranks.videos.tolist() == owners
    assert ranks.t2v.dtype == ranks.v2t.dtype == torch.float64


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Similarities with many ties, negative and infinite scores; several captions a video, and videos without."""
    texts, videos = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    values = draw(st.sampled_from([[0.5], [-1.0, -0.25, 0.0], [-3.0, -2.0, 0.5, 4.0, math.inf, -math.inf]]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    similarity = torch.tensor(values)[torch.randint(len(values), (texts, videos), generator=generator)]
    if draw(st.booleans()):
        similarity = torch.randn(texts, videos, generator=generator)
    return similarity, torch.randint(videos, (texts,), generator=generator)


@settings(max_examples=200, deadline=None)
@given(matrices(), st.integers(1, 10))
def test_is_the_slow_reference_whole_and_in_chunks(case: tuple[Tensor, Tensor], chunk_size: int) -> None:
    similarity, video_of_text = case
    assert_ranks(ranks_from_matrix(similarity, video_of_text), similarity, video_of_text)
    in_chunks = ranks_in_chunks(lambda part: similarity[:, part], *similarity.shape, video_of_text, chunk_size)
    assert_ranks(in_chunks, similarity, video_of_text)


@settings(max_examples=50, deadline=None)
@given(matrices(), st.randoms(use_true_random=False))
def test_orders_of_texts_and_videos_do_not_matter(case: tuple[Tensor, Tensor], random) -> None:
    similarity, video_of_text = case
    texts = torch.tensor(random.sample(range(len(similarity)), len(similarity)))
    videos = torch.tensor(random.sample(range(similarity.shape[1]), similarity.shape[1]))
    ranks = ranks_from_matrix(similarity, video_of_text)
    moved = ranks_from_matrix(similarity[texts][:, videos], videos.argsort()[video_of_text[texts]])
    assert moved.t2v.tolist() == ranks.t2v[texts].tolist()
    before = dict(zip(ranks.videos.tolist(), ranks.v2t.tolist(), strict=True))
    assert {int(videos[v]): rank for v, rank in zip(moved.videos, moved.v2t.tolist(), strict=True)} == before


def test_a_constant_score_is_not_rewarded() -> None:
    ranks = ranks_from_matrix(torch.zeros(1000, 1000), torch.arange(1000))
    assert (ranks.t2v == 500.5).all()
    assert (ranks.v2t == 500.5).all()


def test_several_captions_a_video_and_videos_without() -> None:
    # Videos 0 and 2 have two captions and one; video 1 has none.
    similarity = torch.tensor(
        [
            [0.9, 0.1, 0.2],  # of video 0: first
            [0.3, 0.8, 0.5],  # of video 0: third, also behind the video without captions
            [0.4, 0.7, 0.6],  # of video 2: second
        ]
    )
    ranks = ranks_from_matrix(similarity, torch.tensor([0, 0, 2]))
    assert ranks.t2v.tolist() == [1, 3, 2]
    # Video 0: its best caption has 0.9, that of video 2 has 0.4. Video 2: 0.6 of its own against 0.5.
    assert ranks.v2t.tolist() == [1, 1]
    assert ranks.videos.tolist() == [0, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    similarity = (4 * torch.randn(20, 9, generator=generator)).to(dtype)
    video_of_text = torch.randint(9, (20,), generator=generator)
    assert_ranks(ranks_from_matrix(similarity, video_of_text), similarity.double(), video_of_text)


def test_small_differences_are_no_ties() -> None:
    similarity = torch.tensor([[1.0, 1.0 + 1e-15]], dtype=torch.float64)
    assert ranks_from_matrix(similarity, torch.tensor([0])).t2v.tolist() == [2]


def test_chunks_are_asked_for_one_at_a_time() -> None:
    similarity = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    asked: list[tuple[int, int]] = []

    def score(part: slice) -> Tensor:
        asked.append((part.start, part.stop))
        return similarity[:, part]

    video_of_text = torch.tensor([0, 9, 3, 3, 5, 8])
    assert_ranks(ranks_in_chunks(score, 6, 10, video_of_text, 4), similarity, video_of_text)
    assert asked == [(0, 4), (4, 8), (8, 10), (0, 4), (4, 8)]
    asked.clear()
    ranks_in_chunks(score, 6, 10, video_of_text, 100)
    assert asked == [(0, 10)]


# ---------------------------------------------------------------------------------------------------------- legacy rule


def slow_legacy(scores: list[float], right: int) -> list[int]:
    """What the published rule does, as it is described: places where sorted scores minus the own score are zero."""
    ordered = sorted((score for score in scores if not math.isnan(score)), reverse=True)
    return [place for place, score in enumerate(ordered, start=1) if score - scores[right] == 0]


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_legacy_counts_ties_several_times(case: tuple[Tensor, Tensor]) -> None:
    similarity, video_of_text = case
    ranks = ranks_from_matrix(similarity, video_of_text, rule="legacy")
    rows, owners = similarity.tolist(), sorted(set(video_of_text.tolist()))
    expected = [rank for row, own in zip(rows, video_of_text.tolist(), strict=True) for rank in slow_legacy(row, own)]
    assert ranks.t2v.tolist() == expected
    of = {
        owner: [row for row, own in zip(rows, video_of_text.tolist(), strict=True) if own == owner] for owner in owners
    }
    best = [[max(row[video] for row in of[owner]) for owner in owners] for video in owners]
    assert ranks.v2t.tolist() == [rank for i, row in enumerate(best) for rank in slow_legacy(row, i)]


def test_legacy_loses_queries_with_nan() -> None:
    similarity = torch.tensor([[math.nan, math.nan], [0.2, 0.1]])
    assert ranks_from_matrix(similarity, torch.tensor([0, 1]), rule="legacy").t2v.tolist() == [2]


def test_legacy_is_the_same_without_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    similarity, video_of_text = torch.randn(30, 12, generator=generator), torch.randint(12, (30,), generator=generator)
    ranks, legacy = (ranks_from_matrix(similarity, video_of_text, rule=rule) for rule in ("mean", "legacy"))
    assert legacy.t2v.equal(ranks.t2v)
    assert legacy.v2t.equal(ranks.v2t)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("chunk_size", [2, 10])
def test_nan_is_refused_by_name(chunk_size: int) -> None:
    similarity = torch.zeros(4, 5)
    similarity[1, 3] = math.nan
    video_of_text = torch.tensor([0, 1, 2, 4])
    with pytest.raises(NonFiniteError, match="text 1 and video 3 is NaN"):
        ranks_from_matrix(similarity, video_of_text)
    ids = {"text_ids": torch.arange(4) + 70, "video_ids": torch.arange(5) + 20}
    with pytest.raises(NonFiniteError, match="text 71 and video 23 is NaN"):
        ranks_in_chunks(lambda part: similarity[:, part], 4, 5, video_of_text, chunk_size, **ids)


@pytest.mark.parametrize(
    ("shape", "video_of_text", "message"),
    [
        ((2, 3), torch.tensor([0, 3]), "text 1 describes video 3, but there are 3 videos"),
        ((2, 3), torch.tensor([-1, 0]), "text 0 describes video -1"),
        ((2, 3), torch.tensor([0]), r"shape \[1\]"),
        ((2, 3), torch.tensor([0.0, 1.0]), "float32"),
        ((2, 3, 1), torch.tensor([0, 1]), r"shape \[2, 3, 1\]"),
        ((0, 3), torch.zeros(0, dtype=torch.int64), "0 texts and 3 videos"),
        ((3, 0), torch.zeros(3, dtype=torch.int64), "3 texts and 0 videos"),
    ],
)
def test_matrices_that_cannot_be_ranked(shape: tuple[int, ...], video_of_text: Tensor, message: str) -> None:
    for rule in ("mean", "legacy"):
        with pytest.raises(ConfigError, match=message):
            ranks_from_matrix(torch.zeros(shape), video_of_text, rule=rule)


def test_options_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="rule is 'first'"):
        ranks_from_matrix(torch.zeros(1, 1), torch.tensor([0]), rule="first")
    with pytest.raises(ConfigError, match="chunk_size is 0"):
        ranks_in_chunks(lambda part: torch.zeros(1, 1), 1, 1, torch.tensor([0]), 0)
    with pytest.raises(ConfigError, match=r"have the shape \[4, 1\]"):
        ranks_in_chunks(lambda part: torch.zeros(4, 1), 1, 4, torch.tensor([0]), 10)
