"""k-medoids++ as its definition reads, to compare with: every round masks the distances once for each cluster.

Written for nothing but this comparison; the package's own code is not used.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def direct_kmedoids(
    tokens: Tensor,
    num_clusters: int,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    boolean: bool = False,
) -> Tensor:
    """Medoids ``[B, K]``, ascending, of tokens ``[B, N, C]``, by tensors ``[B, K, N, N]``.

    Args:
        tokens: float32.
        num_clusters: K.
        max_iterations: rounds after the seeding, at most.
        tolerance: rounds end when no sample's medoids shift by more in sum.
        boolean: choose the distances by a mask of one byte an element, in place of multiplying them by a mask of zeros
            and ones of four.
    """
    batch = len(tokens)
    distances = torch.cdist(tokens, tokens)  # (B, N, N)
    samples = torch.arange(batch, device=tokens.device)
    medoids = tokens.norm(dim=-1).argmax(dim=1, keepdim=True)  # (B, 1)
    while medoids.shape[1] < num_clusters:
        to_medoids = distances[samples[:, None], medoids]  # (B, k, N)
        nearest = to_medoids.min(dim=1).values.scatter(1, medoids, -torch.inf)
        medoids = torch.cat([medoids, nearest.argmax(dim=1, keepdim=True)], dim=1)
    for _ in range(max_iterations):
        to_medoids = distances[samples[:, None], medoids]  # (B, K, N)
        to_medoids = to_medoids.scatter(2, medoids[:, :, None], -torch.inf)
        own = torch.zeros_like(to_medoids).scatter_(1, to_medoids.argmin(dim=1, keepdim=True), 1.0)  # (B, K, N)
        sums = _sums_of_members(own, distances, boolean)
        found = sums.masked_fill(own == 0, torch.inf).argmin(dim=2)  # (B, K)
        moved = tokens[samples[:, None], found] - tokens[samples[:, None], medoids]
        medoids = found
        if bool((moved.norm(dim=-1).sum(dim=1) < tolerance).all()):
            break
    return medoids.sort(dim=1).values


def _sums_of_members(own: Tensor, distances: Tensor, boolean: bool) -> Tensor:
    """Of every point's distances to the members of every cluster: ``[B, K, N]`` of 0 and 1, ``[B, N, N]``."""
    if boolean:
        members = own.bool()[:, :, :, None] & own.bool()[:, :, None, :]  # (B, K, N, N)
        return torch.where(members, distances[:, None], 0.0).sum(dim=3)
    return (own[:, :, :, None] * own[:, :, None, :] * distances[:, None]).sum(dim=3)


def bytes_needed(batch: int, count: int, num_clusters: int) -> int:
    """At most, of `direct_kmedoids`: two float32 tensors ``[B, K, N, N]`` and small ones."""
    return 2 * 4 * batch * num_clusters * count**2 + 2**28
