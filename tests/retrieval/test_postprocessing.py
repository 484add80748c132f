"""Dual softmax and QB-Norm against the formulas written out in plain Python, and what must hold of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.retrieval import QueryBank, dual_softmax, qb_norm, ranks_from_matrix


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_dual_softmax(similarity: list[list[float]], temperature: float) -> list[list[float]]:
    revised = []
    for row in similarity:
        new = []
        for c, own in enumerate(row):
            total = sum(math.exp(other[c] / temperature) for other in similarity)
            new.append(own * math.exp(own / temperature) / total)
        revised.append(new)
    return revised


def slow_qb_norm(similarity: list[list[float]], bank: list[list[float]], beta: float, k: int) -> list[list[float]]:
    """As in the paper: the normalised similarity itself, not its logarithm."""
    active = set()
    for row in bank:
        active |= set(sorted(range(len(row)), key=lambda c: -row[c])[:k])
    revised = []
    for row in similarity:
        if max(range(len(row)), key=lambda c: row[c]) in active:
            sums = [sum(math.exp(beta * other[c]) for other in bank) for c in range(len(row))]
            revised.append([math.exp(beta * own) / total for own, total in zip(row, sums, strict=True)])
        else:
            revised.append(list(row))
    return revised


@pytest.mark.parametrize("temperature", [0.2, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dual_softmax_is_the_formula(temperature: float, dtype: torch.dtype) -> None:
    similarity = (3 * noise(7, 5, seed=0)).to(dtype)
    revised = dual_softmax(similarity, temperature=temperature)
    assert revised.dtype == torch.float64
    expected = slow_dual_softmax(similarity.double().tolist(), temperature)
    np.testing.assert_allclose(revised.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("beta", [0.3, 20.0])
def test_qb_norm_is_the_formula(beta: float, k: int) -> None:
    similarity, bank = noise(40, 12, seed=1), noise(6, 12, seed=2)
    expected = np.array(slow_qb_norm(similarity.double().tolist(), bank.double().tolist(), beta, k))
    revised = qb_norm(similarity, bank, beta=beta, k=k).numpy()
    plain = (expected == similarity.double().numpy()).all(axis=1)
    assert 0 < plain.sum() < 40, "some queries are revised, some are not"
    np.testing.assert_allclose(revised[plain], expected[plain], rtol=1e-12)
    np.testing.assert_allclose(revised[~plain], np.log(expected[~plain]), rtol=1e-9, atol=1e-9)


def test_dual_softmax_takes_a_hub_away_from_those_who_like_it_less() -> None:
    """Every text likes video 0 best; with the prior it is left to the text that likes it most."""
    similarity = torch.tensor([[9.0, 5.0, 1.0], [7.0, 6.0, 1.0], [7.0, 1.0, 6.0]])
    own = torch.tensor([0, 1, 2])
    assert ranks_from_matrix(similarity, own).t2v.tolist() == [1, 2, 2]
    assert ranks_from_matrix(dual_softmax(similarity), own).t2v.tolist() == [1, 1, 1]


def test_qb_norm_takes_a_hub_away_where_the_bank_likes_it() -> None:
    similarity = torch.tensor([[0.50, 0.45, 0.1], [0.1, 0.2, 0.6]])
    bank = torch.tensor([[0.6, 0.2, 0.2], [0.7, 0.1, 0.1]])
    own = torch.tensor([1, 2])
    assert ranks_from_matrix(similarity, own).t2v.tolist() == [2, 1]
    revised = qb_norm(similarity, bank, beta=20)
    assert ranks_from_matrix(revised, own).t2v.tolist() == [1, 1]
    assert torch.equal(revised[1], similarity[1].double())  # its best candidate is not active


def matrices(rows: st.SearchStrategy[int], columns: int) -> st.SearchStrategy[Tensor]:
    """Of multiples of 1/8, so that ties are frequent and sums of few are exact."""
    values = st.integers(-80, 80).map(lambda k: k / 8)
    return rows.flatmap(lambda n: arrays(np.float64, (n, columns), elements=values)).map(torch.from_numpy)


SOME = st.integers(1, 8)


@settings(deadline=None, max_examples=40)
@given(matrices(SOME, 5), matrices(SOME, 5), st.integers(0, 999))
def test_the_order_of_queries_candidates_and_bank_does_not_matter(similarity: Tensor, bank: Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(len(similarity), generator=generator), torch.randperm(5, generator=generator)
    others = torch.randperm(len(bank), generator=generator)
    for revise, mixed in (
        (dual_softmax(similarity), dual_softmax(similarity[rows][:, columns])),
        (
            qb_norm(similarity, bank, beta=2.0),
            qb_norm(similarity[rows][:, columns], bank[others][:, columns], beta=2.0),
        ),
    ):
        torch.testing.assert_close(mixed, revise[rows][:, columns], rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(matrices(SOME, 5), matrices(SOME, 5), st.integers(0, 4), st.integers(0, 4))
def test_equal_candidates_stay_equal(similarity: Tensor, bank: Tensor, one: int, other: int) -> None:
    similarity[:, other], bank[:, other] = similarity[:, one], bank[:, one]
    for revised in (dual_softmax(similarity), qb_norm(similarity, bank, beta=1.7)):
        assert torch.equal(revised[:, one], revised[:, other])


@pytest.mark.parametrize("columns", [9, 33, 130])
def test_copies_tie_exactly_wherever_they_stand(columns: int) -> None:
    similarity, bank = noise(301, columns, seed=3), noise(257, columns, seed=4)
    similarity[:, -1], bank[:, -1] = similarity[:, 0], bank[:, 0]
    for revised in (dual_softmax(similarity), qb_norm(similarity, bank, beta=20)):
        assert torch.equal(revised[:, 0], revised[:, -1])


@settings(deadline=None, max_examples=40)
@given(matrices(SOME, 6), matrices(SOME, 1), st.floats(0.1, 30))
def test_a_bank_that_likes_all_candidates_alike_changes_no_rank(
    similarity: Tensor, liking: Tensor, beta: float
) -> None:
    own = torch.zeros(len(similarity), dtype=torch.int64)
    plain = ranks_from_matrix(similarity, own).t2v
    revised = qb_norm(similarity, liking.expand(-1, 6), beta=beta)
    assert torch.equal(ranks_from_matrix(revised, own).t2v, plain)


@settings(deadline=None, max_examples=40)
@given(matrices(SOME, 6), st.sampled_from([0.5, 1.0, 40.0]))
def test_one_query_alone_gets_its_own_ranks(similarity: Tensor, temperature: float) -> None:
    """Its prior is 1 with every candidate."""
    alone = similarity[:1]
    assert torch.equal(dual_softmax(alone, temperature=temperature), alone)


def test_a_high_temperature_changes_no_rank() -> None:
    similarity, own = 5 * noise(30, 20, seed=5), torch.arange(20).repeat(2)[:30]
    revised = dual_softmax(similarity, temperature=1e9)
    assert torch.equal(ranks_from_matrix(revised, own).t2v, ranks_from_matrix(similarity, own).t2v)


@settings(deadline=None, max_examples=40)
@given(matrices(SOME, 5), matrices(st.integers(2, 9), 5), st.integers(1, 3), st.data())
def test_a_bank_in_parts_is_the_whole_bank(similarity: Tensor, bank: Tensor, k: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(bank) - 1))
    whole = QueryBank.of(bank, beta=3.0, k=k)
    parts = QueryBank.empty(5)
    for part in (bank[:cut], bank[cut:]):
        parts = parts.combine(QueryBank.of(part, beta=3.0, k=k))
    assert torch.equal(parts.active, whole.active)
    torch.testing.assert_close(parts.log_sum, whole.log_sum, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        qb_norm(similarity, parts, beta=3.0), qb_norm(similarity, bank, beta=3.0, k=k), rtol=1e-12, atol=1e-12
    )


def test_ties_for_the_best_are_all_active_and_any_active_best_counts() -> None:
    bank = QueryBank.of(torch.tensor([[1.0, 1.0, 0.0, 0.5]]), beta=1.0)
    assert bank.active.tolist() == [True, True, False, False]
    similarity = torch.tensor([[0.0, 2.0, 2.0, 0.0], [0.0, 1.0, 2.0, 2.0]])
    revised = qb_norm(similarity, bank, beta=1.0)
    assert torch.equal(revised[0], similarity[0].double() - torch.tensor([1.0, 1.0, 0.0, 0.5]).double())
    assert torch.equal(revised[1], similarity[1].double())
    assert QueryBank.of(torch.zeros(1, 4), beta=1.0, k=99).active.all()


def test_far_apart_scores_do_not_overflow_or_tie() -> None:
    """In float32, exp of the differences would be 0 for all candidates but the first."""
    similarity = torch.tensor([[100.0, -50.0, -60.0], [-100.0, 90.0, 95.0]])
    revised = dual_softmax(similarity)
    assert revised.isfinite().all()
    assert revised[0].unique().numel() == 3
    normed = qb_norm(similarity, similarity, beta=1e4)
    assert normed.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_and_named(value: float) -> None:
    spoilt = torch.zeros(3, 4)
    spoilt[2, 1] = value
    with pytest.raises(NonFiniteError, match=rf"similarity of query 2 and candidate 1 is {value}"):
        dual_softmax(spoilt)
    with pytest.raises(NonFiniteError, match=r"of query 2 and candidate 1"):
        qb_norm(spoilt, torch.zeros(2, 4), beta=1.0)
    with pytest.raises(NonFiniteError, match=r"of query of the bank 2 and candidate 1"):
        qb_norm(torch.zeros(2, 4), spoilt, beta=1.0)


def test_what_does_not_fit_is_refused() -> None:
    matrix = torch.zeros(2, 3)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="temperature is"):
            dual_softmax(matrix, temperature=temperature)
        with pytest.raises(ConfigError, match="beta is"):
            qb_norm(matrix, matrix, beta=temperature)
    for shape in ((3,), (0, 3), (3, 0), (1, 2, 3)):
        with pytest.raises(ConfigError, match="cannot be revised"):
            dual_softmax(torch.zeros(shape))
    with pytest.raises(ConfigError, match="k is 0"):
        qb_norm(matrix, matrix, beta=1.0, k=0)
    with pytest.raises(ConfigError, match="compared with 4 candidates, the queries with 3"):
        qb_norm(matrix, torch.zeros(2, 4), beta=1.0)
    with pytest.raises(ConfigError, match="holds no queries"):
        qb_norm(matrix, QueryBank.empty(3), beta=1.0)
    with pytest.raises(ConfigError, match="for 3 and 4 candidates"):
        QueryBank.empty(3).combine(QueryBank.empty(4))
