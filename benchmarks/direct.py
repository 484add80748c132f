"""k-medoids++ as its definition reads, to compare with: every round masks the distances once for each cluster."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def direct_kmedoids(tokens: Tensor, num_clusters: int, max_iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Medoids ``[B, K]``, ascending, of tokens ``[B, N, C]``, by tensors ``[B, K, N, N]``."""
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
        clusters = torch.arange(num_clusters, device=tokens.device)[:, None]
        own = to_medoids.argmin(dim=1)[:, None] == clusters  # (B, K, N)
        members = own[:, :, :, None] & own[:, :, None, :]  # (B, K, N, N): the mask
        sums = torch.where(members, distances[:, None], 0.0).sum(dim=3)  # (B, K, N)
        found = sums.masked_fill(~own, torch.inf).argmin(dim=2)  # (B, K)
        moved = tokens[samples[:, None], found] - tokens[samples[:, None], medoids]
        medoids = found
        if bool((moved.norm(dim=-1).sum(dim=1) < tolerance).all()):
            break
    return medoids.sort(dim=1).values
