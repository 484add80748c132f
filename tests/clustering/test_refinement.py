"""The two forms of the rounds: what they share is tested through `kmedoids`; here, that they agree."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl.clustering.distances import pairwise_distances
from centerclip_pl.clustering.refinement import refine_all, refine_changes
from centerclip_pl.clustering.seeding import farthest_points


def points(batch: int, count: int, channels: int, highest: int, seed: int) -> Tensor:
    """Whole numbers, so that many distances are equal and some points are identical."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-highest, highest + 1, (batch, count, channels), generator=generator).float()


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 4),
    count=st.integers(1, 40),
    channels=st.integers(1, 3),
    highest=st.integers(0, 6),
    share=st.floats(0, 1),
    rounds=st.integers(0, 9),
    tolerance=st.sampled_from([0.0, 1e-6, 1.0, 4.0]),
    seed=st.integers(0, 2**16),
)
def test_both_forms_agree(
    batch: int, count: int, channels: int, highest: int, share: float, rounds: int, tolerance: float, seed: int
) -> None:
    tokens = points(batch, count, channels, highest, seed)
    distances = pairwise_distances(tokens)
    clusters = 1 + int(share * (count - 1))
    seeds = farthest_points(distances, torch.linalg.vector_norm(tokens, dim=-1).argmax(dim=1), clusters)
    found = [refine(tokens, distances, seeds, rounds, tolerance) for refine in (refine_all, refine_changes)]
    assert torch.equal(*found)
    assert all(len(set(row)) == clusters for row in found[0].tolist())


@pytest.mark.parametrize(("batch", "count", "clusters"), [(8, 147, 49), (2, 588, 160)])
def test_both_forms_agree_on_tokens_like_a_transformers(batch: int, count: int, clusters: int) -> None:
    generator = torch.Generator().manual_seed(count)
    tokens = torch.randn(batch, count, 32, generator=generator) + 2 * torch.randn(batch, 1, 32, generator=generator)
    distances = pairwise_distances(tokens)
    seeds = farthest_points(distances, torch.zeros(batch, dtype=torch.int64), clusters)
    assert torch.equal(
        refine_all(tokens, distances, seeds, 100, 1e-6), refine_changes(tokens, distances, seeds, 100, 1e-6)
    )


def test_seeds_are_as_far_as_possible() -> None:
    tokens = points(3, 30, 2, 9, seed=0)
    distances = torch.cdist(tokens, tokens)
    found = farthest_points(distances, torch.tensor([4, 0, 29]), 12)
    assert found[:, 0].tolist() == [4, 0, 29]
    for sample, medoids in enumerate(found.tolist()):
        for k in range(1, 12):
            nearest = distances[sample][:, medoids[:k]].min(dim=1).values
            nearest[medoids[:k]] = -1
            assert medoids[k] == int(nearest.argmax())


def test_the_gpu_kernel_finds_the_same_seeds() -> None:
    """Triton's interpreter runs it on a CPU; it has to be asked for before triton is imported."""
    pytest.importorskip("triton", reason="triton comes with torch for CUDA")
    code = """
import torch
from centerclip_pl.clustering.seeding import farthest_points_in_steps
from centerclip_pl.clustering.seeding_kernel import farthest_points_in_one_launch
for batch, count, clusters, seed in ((3, 30, 12, 0), (2, 147, 49, 1), (1, 1, 1, 2), (4, 16, 16, 3), (2, 33, 1, 4)):
    points = torch.randint(-3, 4, (batch, count, 2), generator=torch.Generator().manual_seed(seed)).float()
    distances = torch.cdist(points, points) - seed
    first = torch.arange(batch) % count
    found = farthest_points_in_one_launch(distances, first, clusters)
    assert torch.equal(found, farthest_points_in_steps(distances, first, clusters)), (batch, count, clusters)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TRITON_INTERPRET": "1"}, timeout=300)
