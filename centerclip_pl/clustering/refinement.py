"""The rounds of k-medoids: each point joins its nearest medoid, each cluster chooses its most central member.

There are two forms with the same result. Where a wait for the device is dear (a GPU), every round works on all
samples, and whether all are done is asked now and then. On a CPU each round works only on what the last one changed:
after the first rounds, that is a small part.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS_WITHOUT_ASKING = 4


def refine(points: Tensor, distances: Tensor, seeds: Tensor, max_iterations: int, tolerance: float) -> Tensor:
    """Alternates assignments and medoids until each sample is done.

    A sample that is done keeps its medoids, so its result does not depend on the others in the batch.

    Args:
        points: float ``[B, N, C]``, in whose unit `tolerance` is.
        distances: float ``[B, N, N]``, contiguous.
        seeds: int64 ``[B, K]``, different in each sample.
        max_iterations: at most so many rounds.
        tolerance: a sample is done when the L2 norms of its medoids' shifts sum up to less.

    Returns:
        int64 ``[B, K]``, in the order of the seeds.
    """
    if distances.device.type == "cpu":
        return refine_changes(points, distances, seeds, max_iterations, tolerance)
    return refine_all(points, distances, seeds, max_iterations, tolerance)


def assign(distances: Tensor, medoids: Tensor) -> Tensor:
    """The nearest medoid of each point: distances ``[B, N, N]``, medoids ``[B, K]`` -> cluster ids ``[B, N]``.

    A medoid is nearest to itself, also among identical points; otherwise the lowest cluster id wins ties.
    """
    return _to_medoids(distances, medoids).min(dim=1).indices


def refine_all(points: Tensor, distances: Tensor, seeds: Tensor, max_iterations: int, tolerance: float) -> Tensor:
    """`refine` in rounds over all samples."""
    samples, tokens = _numbers(distances)
    medoids, start = seeds, samples[:, None] * seeds.shape[1]
    moving = torch.ones_like(samples, dtype=torch.bool)
    for turn in range(max_iterations):
        before = medoids
        assignments = assign(distances, before)
        cost = _costs_within(assignments, distances).flatten()
        after = _central_members(cost, (assignments + start).flatten(), tokens, before.flatten())
        medoids = torch.where(moving[:, None], after.view_as(before), before)
        steps = points[samples[:, None], medoids] - points[samples[:, None], before]  # (B, K, C)
        shift = torch.linalg.vector_norm(steps, dim=-1).sum(dim=1)
        moving = moving & (shift >= tolerance) & (shift > 0)
        if turn % _ROUNDS_WITHOUT_ASKING == _ROUNDS_WITHOUT_ASKING - 1 and not bool(moving.any()):
            break
    return medoids


def refine_changes(points: Tensor, distances: Tensor, seeds: Tensor, max_iterations: int, tolerance: float) -> Tensor:
    """`refine` in rounds over the clusters whose members changed in the round before."""
    (batch, count, _), clusters = distances.shape, seeds.shape[1]
    samples, tokens = _numbers(distances)
    rows, flat_points, start = distances.view(batch * count, count), points.flatten(0, 1), samples[:, None] * clusters
    medoids = seeds.flatten().clone()  # (B*K,)
    to_medoids = _to_medoids(distances, seeds)  # (B, K, N)
    assignments = to_medoids.min(dim=1).indices  # (B, N)
    keys = (assignments + start).flatten()  # (B*N,): the cluster of each token, numbered through all samples
    cost, keys_at, tokens_at = _costs_within(assignments, distances).flatten(), keys, tokens
    for _ in range(max_iterations):
        central = _central_members(cost, keys_at, tokens_at, medoids)
        moved = (central != medoids).nonzero()[:, 0]
        sample, old, new = moved // clusters, medoids[moved], central[moved]
        medoids[moved] = new
        steps = flat_points.index_select(0, sample * count + new) - flat_points.index_select(0, sample * count + old)
        lengths = torch.linalg.vector_norm(steps, dim=-1)
        shift = lengths.new_zeros(batch).index_add_(0, sample, lengths)[sample]
        goes_on = (shift >= tolerance) & (shift > 0)
        moved, sample, new = moved[goes_on], sample[goes_on], new[goes_on]
        # Only the distances to medoids that moved are new, and only their samples are assigned again.
        columns = rows.index_select(0, sample * count + new).scatter_(1, new[:, None], -float("inf"))  # (M, N)
        to_medoids.view(batch * clusters, count).index_copy_(0, moved, columns)
        active = sample.unique_consecutive()
        nearest = to_medoids.index_select(0, active).min(dim=1).indices
        assignments = assignments.index_copy(0, active, nearest)
        keys_before, keys = keys, (assignments + start).flatten()
        changed = (keys != keys_before).nonzero()[:, 0]
        if len(changed) == 0:
            break
        dirty = torch.zeros_like(medoids, dtype=torch.bool)
        dirty[keys_before[changed]] = True
        dirty[keys[changed]] = True
        members = dirty[keys].nonzero()[:, 0]  # all tokens of the clusters that lost or won one
        short = assignments.to(_short_ids(clusters))
        apart = short.view(-1, 1).index_select(0, members) != short.index_select(0, members // count)  # (R, N)
        cost = rows.index_select(0, members).masked_fill_(apart, 0.0).sum(dim=1)  # (R, N) -> (R,)
        keys_at, tokens_at = keys[members], tokens[members]
    return medoids.view(batch, clusters)


def _numbers(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Of the samples, ``[B]``, and of the tokens within their samples, ``[B*N]``."""
    batch, count, _ = distances.shape
    return (
        torch.arange(batch, device=distances.device),
        torch.arange(count, device=distances.device).repeat(batch),
    )


def _costs_within(assignments: Tensor, distances: Tensor) -> Tensor:
    """Each token's summed distance to the members of its cluster ``[B, N]``.

    A token's cost concerns its own cluster alone, so one mask ``[B, N, N]`` serves all clusters.
    """
    short = assignments.to(_short_ids(distances.shape[1]))
    together = short[:, :, None] == short[:, None, :]
    return torch.where(together, distances, 0.0).sum(dim=2)


def _short_ids(clusters: int) -> torch.dtype:
    """Of ids below `clusters`, where they are repeated for every pair of tokens: a quarter of int64's memory."""
    return torch.int16 if clusters <= torch.iinfo(torch.int16).max else torch.int64


def _to_medoids(distances: Tensor, medoids: Tensor) -> Tensor:
    """Distance of each point to each medoid ``[B, K, N]``; of a medoid to itself: minus infinity."""
    (batch, count, _), clusters = distances.shape, medoids.shape[1]
    start = torch.arange(0, batch * count, count, device=medoids.device)[:, None]
    rows = distances.view(batch * count, count).index_select(0, (medoids + start).flatten())  # (B*K, N)
    return rows.view(batch, clusters, count).scatter_(2, medoids[:, :, None], -float("inf"))


def _central_members(cost: Tensor, key: Tensor, token: Tensor, medoids: Tensor) -> Tensor:
    """The member of least cost of each cluster, the lowest index among equals.

    Args:
        cost: ``[R]``, of tokens.
        key: int64 ``[R]``: their clusters, numbered through all samples.
        token: int64 ``[R]``: their indices within their samples.
        medoids: int64 ``[B*K]``: what clusters keep of which no token is given.
    """
    least = cost.new_full(medoids.shape, float("inf")).scatter_reduce_(0, key, cost, "amin")
    is_least = cost == least[key]
    nowhere = torch.iinfo(torch.int64).max
    candidates = torch.where(is_least, token, nowhere)
    found = torch.full_like(medoids, nowhere).scatter_reduce_(0, key, candidates, "amin")
    return torch.where(found == nowhere, medoids, found)
