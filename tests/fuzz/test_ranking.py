"""Ranks and metrics: invariances, every way of handing the data over, and matrices that cannot be ranked."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fuzzing import FUNCTIONS, attempt, tried
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl import RetrievalMetrics
from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.retrieval import dual_softmax, qb_norm, ranks_from_matrix, ranks_in_chunks, retrieval_metrics
from centerclip_pl.types import VideoEmbedding

SEEDS = st.integers(0, 2**31)
# Of floats that are no neighbours, so that no transformation makes ties.
LEVELS = torch.tensor([-math.inf, -7.0, -1.5, -0.25, 0.0, 1e-3, 2.0, 65000.0, math.inf])


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Levels ``[texts, videos]`` (0 to 8) and the video of each text."""
    texts, videos = draw(st.integers(1, 14)), draw(st.integers(1, 10))
    random = torch.Generator().manual_seed(draw(SEEDS))
    highest = draw(st.integers(1, 9))
    return (
        torch.randint(highest, (texts, videos), generator=random),
        torch.randint(videos, (texts,), generator=random),
    )


@FUNCTIONS
@given(evaluations(), st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64]))
def test_only_the_order_of_scores_counts(case: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    levels, own = case
    expected = ranks_from_matrix(levels, own)
    scores = levels.to(dtype) if dtype == torch.int64 else LEVELS.to(dtype)[levels]
    strided = scores.repeat(1, 2)[:, : scores.shape[1]].mT.contiguous().mT
    tried(times=2)
    for given_scores in (scores, strided):
        found = ranks_from_matrix(given_scores, own)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@FUNCTIONS
@given(evaluations(), st.integers(1, 12))
def test_more_candidates_that_are_worse_or_better(case: tuple[Tensor, Tensor], more: int) -> None:
    """Of a text's rank: videos below all others change nothing, those above all push everything down by one each."""
    levels, own = case
    before = ranks_from_matrix(levels, own)
    for level, pushed in ((-1, 0), (99, more)):
        tried()
        found = ranks_from_matrix(torch.cat([levels, torch.full((len(levels), more), level)], dim=1), own)
        assert torch.equal(found.t2v, before.t2v + pushed)
        assert torch.equal(found.v2t, before.v2t)  # a video without texts is no query


@FUNCTIONS
@given(evaluations())
def test_metrics_are_those_of_the_ranks(case: tuple[Tensor, Tensor]) -> None:
    levels, own = case
    tried()
    found = retrieval_metrics(levels, own, ks=(1, 2, 5))
    ranks = ranks_from_matrix(levels, own)
    for direction, values in (("t2v", ranks.t2v.tolist()), ("v2t", ranks.v2t.tolist())):
        for k in (1, 2, 5):
            assert found[f"{direction}/R@{k}"] == pytest.approx(100 * sum(v <= k for v in values) / len(values))
        assert found[f"{direction}/MdR"] == statistics.median(values)
        assert found[f"{direction}/MnR"] == pytest.approx(statistics.fmean(values))


@FUNCTIONS
@given(SEEDS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 5))
def test_the_metric_agrees_with_the_matrix_however_batches_come(
    seed: int, texts: int, videos: int, chunk_size: int, size: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    # Whole numbers of one length: every cosine is exact, ties included.
    signs = [torch.randint(2, (n, 4), generator=random) * 2.0 - 1 for n in (texts, videos)]
    own = torch.randint(videos, (texts,), generator=random)
    mask = torch.ones(videos, 1, dtype=torch.bool)
    metric = RetrievalMetrics(chunk_size=chunk_size)
    for start in range(0, max(texts, videos), size):
        t, v = slice(start, start + size), slice(start, start + size)
        metric.update(
            text=signs[0][t],
            text_ids=torch.arange(texts)[t],
            video_of_text=own[t],
            video=VideoEmbedding(signs[1][v][:, None], mask[v]),
            video_ids=torch.arange(videos)[v],
        )
    tried()
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx(retrieval_metrics(signs[0] @ signs[1].T, own))


@FUNCTIONS
@given(evaluations(), st.floats(0, 1), st.integers(1, 12))
def test_a_score_that_is_no_number_is_named(case: tuple[Tensor, Tensor], where: float, chunk_size: int) -> None:
    levels, own = case
    scores = levels.double()
    flat = min(int(where * scores.numel()), scores.numel() - 1)
    text, video = divmod(flat, scores.shape[1])
    scores[text, video] = math.nan
    tried("bad", 3)
    says = f"text {text} and video {video} is NaN"
    with pytest.raises(NonFiniteError, match=says):
        ranks_from_matrix(scores, own)
    with pytest.raises(NonFiniteError, match=says):
        retrieval_metrics(scores, own)
    with pytest.raises(NonFiniteError, match=says):
        ranks_in_chunks(lambda part: scores[:, part], *scores.shape, own, chunk_size)


WRONG_MAPS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "below": lambda own, far: own - far,
    "above": lambda own, far: own + far,
    "short": lambda own, _: own[1:],
    "long": lambda own, _: torch.cat([own, own[:1]]),
    "float": lambda own, _: own.double(),
    "int32": lambda own, _: own.int(),
    "2d": lambda own, _: own[:, None],
}


@FUNCTIONS
@given(evaluations(), st.sampled_from(sorted(WRONG_MAPS)), st.integers(1, 2**40))
def test_maps_that_do_not_fit_are_refused(case: tuple[Tensor, Tensor], how: str, by: int) -> None:
    levels, own = case
    wrong = WRONG_MAPS[how](own, levels.shape[1] + by)
    tried("bad")
    with pytest.raises(ConfigError, match="video_of_text"):
        retrieval_metrics(levels.float(), wrong)


@FUNCTIONS
@given(st.lists(st.integers(0, 3), max_size=4), st.sampled_from([torch.float32, torch.bool, torch.complex64]))
def test_other_matrices_are_refused_or_ranked(shape: list[int], dtype: torch.dtype) -> None:
    right = len(shape) == 2 and 0 not in shape and not dtype.is_complex
    tried("good" if right else "bad")
    own = torch.zeros(shape[0] if shape else 0, dtype=torch.int64)
    ranks, error = attempt(lambda: ranks_from_matrix(torch.zeros(shape, dtype=dtype), own))
    assert (error is None) == right
    if error is not None:
        assert isinstance(error, ConfigError)
        return
    assert ranks.t2v.tolist() == [(1 + shape[1]) / 2] * shape[0]  # all tie


@FUNCTIONS
@given(evaluations(), st.one_of(st.floats(max_value=0), st.sampled_from([math.nan, math.inf])), st.booleans())
def test_revisions_refuse_options_that_cannot_work(case: tuple[Tensor, Tensor], value: float, dual: bool) -> None:
    scores: Any = case[0].float()
    tried("bad")
    _, error = attempt(lambda: dual_softmax(scores, temperature=value) if dual else qb_norm(scores, scores, beta=value))
    assert isinstance(error, ConfigError)
    assert error.problem.startswith("temperature" if dual else "beta")


@FUNCTIONS
@given(evaluations(), st.floats(-300, 300), st.booleans())
def test_revisions_of_any_finite_scores_can_be_ranked(case: tuple[Tensor, Tensor], power: float, dual: bool) -> None:
    levels, own = case
    scores, strength = levels.double() - 4, 10.0**power
    try:
        revised = dual_softmax(scores, temperature=strength) if dual else qb_norm(scores, scores, beta=strength)
        ranks = ranks_from_matrix(revised, own)
    except (ConfigError, NonFiniteError):
        tried("bad")
        return
    tried()
    assert 1 <= float(ranks.t2v.min()) <= float(ranks.t2v.max()) <= scores.shape[1]
