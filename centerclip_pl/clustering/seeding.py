"""Farthest-point seeding: the "++" of k-medoids++ (CenterCLIP, arXiv 2205.00823, algorithm 1)."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor


def farthest_points(distances: Tensor, first: Tensor, num_clusters: int) -> Tensor:
    """Each next medoid is the point whose distance to its nearest medoid is largest; the lowest index wins ties.

    Args:
        distances: float ``[B, N, N]``, contiguous; row i holds what point i is away from each point.
        first: int64 ``[B]``, the first medoids.
        num_clusters: K, from 1 to N.

    Returns:
        int64 ``[B, K]``: the medoids in the order in which they were found, all different.
    """
    if distances.is_cuda and distances.dtype == torch.float32 and _has_triton():
        from centerclip_pl.clustering.seeding_kernel import MOST_TOKENS, farthest_points_in_one_launch

        if distances.shape[1] <= MOST_TOKENS:
            return farthest_points_in_one_launch(distances, first, num_clusters)
    return farthest_points_in_steps(distances, first, num_clusters)


def farthest_points_in_steps(distances: Tensor, first: Tensor, num_clusters: int) -> Tensor:
    """`farthest_points` in K - 1 steps of a few operations on ``[B, N]``, on any device."""
    batch, count, _ = distances.shape
    rows = distances.view(batch * count, count)
    start_of_sample = torch.arange(0, batch * count, count, device=distances.device)
    medoids = [first]
    nearest = torch.full_like(distances[:, 0], float("inf"))  # (B, N): to the nearest medoid so far
    for _ in range(num_clusters - 1):
        latest = medoids[-1]
        torch.minimum(nearest, rows.index_select(0, start_of_sample + latest), out=nearest)
        # A medoid is not chosen again, even where all that is left are copies of medoids.
        nearest.scatter_(1, latest[:, None], -float("inf"))
        medoids.append(nearest.argmax(dim=1))
    return torch.stack(medoids, dim=1)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
