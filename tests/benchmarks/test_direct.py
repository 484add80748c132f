"""The direct formulation is a reference of its own: both agree, or one of them is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.direct import bytes_needed, direct_kmedoids
from benchmarks.memory import MEBIBYTE, peak_memory
from centerclip_pl.clustering import kmedoids


@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize(("batch", "count", "clusters"), [(3, 40, 12), (1, 20, 5), (2, 30, 1), (2, 12, 12)])
def test_agrees_on_random_tokens(batch: int, count: int, clusters: int, boolean: bool) -> None:
    tokens = torch.randn(batch, count, 16, generator=torch.Generator().manual_seed(count))
    found = direct_kmedoids(tokens, clusters, boolean=boolean)
    assert torch.equal(found, kmedoids(tokens, clusters).medoids)


@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_on_tied_tokens(seed: int, boolean: bool) -> None:
    """Points of a small grid, many of them twice: distances and sums tie everywhere."""
    tokens = torch.randint(0, 3, (4, 24, 2), generator=torch.Generator().manual_seed(seed)).float()
    assert len(tokens[0].unique(dim=0)) < 12
    assert torch.equal(direct_kmedoids(tokens, 8, boolean=boolean), kmedoids(tokens, 8).medoids)


def test_agrees_on_identical_tokens() -> None:
    tokens = torch.ones(2, 30, 4)
    assert torch.equal(direct_kmedoids(tokens, 7), kmedoids(tokens, 7).medoids)


def test_a_case_worked_out_by_hand() -> None:
    """Longest is 10; farthest from it 0; then {0, 1, 2} has its centre at 1 and {9, 10} ties: the lower index, 9."""
    tokens = torch.tensor([[[0.0], [1.0], [2.0], [9.0], [10.0]]])
    assert direct_kmedoids(tokens, 2).tolist() == [[1, 3]]


def seeds_alone(tokens: Tensor) -> list[list[int]]:
    return direct_kmedoids(tokens, 3, max_iterations=0).tolist()


def test_seeds_are_the_farthest_points() -> None:
    assert seeds_alone(torch.tensor([[[0.0], [1.0], [4.0], [5.0], [10.0]]])) == [[0, 3, 4]]


@pytest.mark.parametrize("boolean", [False, True])
def test_memory_needed_is_an_upper_bound(boolean: bool) -> None:
    tokens = torch.randn(2, 120, 8)
    needed = bytes_needed(2, 120, 60) / MEBIBYTE
    assert peak_memory(lambda: direct_kmedoids(tokens, 60, boolean=boolean)) < needed
