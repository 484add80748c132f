"""k-medoids++ of many small sets of tokens at once (CenterCLIP, arXiv 2205.00823, section 3.3.1 and algorithm 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from centerclip_pl.clustering.distances import Metric, check_metric, pairwise_distances, unit
from centerclip_pl.clustering.refinement import assign, refine
from centerclip_pl.clustering.seeding import farthest_points
from centerclip_pl.errors import ConfigError, NonFiniteError


class Clusters(NamedTuple):
    """Which tokens stand for which."""

    assignments: Tensor
    """int64 ``[B, N]``: for each token the cluster it belongs to, 0 to K - 1."""
    medoids: Tensor
    """int64 ``[B, K]``: for each cluster the index of the token in its centre, ascending."""


@torch.compiler.disable  # how many rounds it takes depends on the data: a graph would break in each
@torch.no_grad()
def kmedoids(
    tokens: Tensor,
    num_clusters: int,
    *,
    metric: Metric = "euclidean",
    p: float = 2.0,
    normalize: bool = False,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
) -> Clusters:
    """Clusters the tokens of each sample around K of them.

    Seeding: the first medoid is the token of largest L2 norm, each next one the token whose distance to its nearest
    medoid is largest. Then, in rounds: each token joins its nearest medoid (a medoid is nearest to itself, also among
    identical tokens), and the member with the least summed distance to all members becomes the cluster's medoid.
    The lowest index wins ties. A sample is done when its medoids' summed shift (L2) is below `tolerance`. At the end
    the medoids are sorted, and each token joins its nearest one once more. Nothing is random.

    Both members of a cluster of two have the same summed distance, up to rounding. Which one becomes the medoid is
    decided by that rounding, and here it is the same as in the published implementation; see `pairwise_distances`
    and, for cosine distances, `_as_published`.

    It works in float32 with autocast off, without gradients, in a few tensors ``[B, N, N]``: equal assignments mask
    the distances once for all clusters.

    Args:
        tokens: floating point ``[B, N, C]``, finite.
        num_clusters: K, at most N.
        metric: ``"euclidean"``: the Minkowski distance of order `p`; ``"cosine"``: 1 - cos.
        p: order of the Minkowski distance, a positive number or infinity.
        normalize: L2-normalise the tokens before measuring distances. All norms are then 1 up to rounding, so the
            first medoid is the token that was longest before.
        max_iterations: at most so many rounds after the seeding.
        tolerance: in the unit of the tokens.

    Returns:
        Assignments ``[B, N]`` and medoids ``[B, K]``, int64, on the device of `tokens`. No cluster is empty.

    Raises:
        ConfigError: a shape, dtype or option that cannot work.
        NonFiniteError: NaN or infinity among the tokens, or tokens so large that their distances overflow.
    """
    check_options(tokens, num_clusters, metric, p, max_iterations, tolerance)
    if len(tokens) == 0:
        return no_clusters(tokens, num_clusters)
    with torch.autocast(tokens.device.type, enabled=False):
        points = tokens.float().contiguous()  # the order of sums, and so the rounding, follows the layout
        norms = torch.linalg.vector_norm(points, dim=-1)  # (B, N)
        if normalize:
            points = unit(points)
        distances = pairwise_distances(points, metric, p)  # (B, N, N)
        check_finite(tokens, norms, distances, metric, p)
        if metric == "cosine":
            distances = _as_published(distances)
        return cluster_distances(points, distances, norms.argmax(dim=1), num_clusters, max_iterations, tolerance)


def cluster_distances(
    points: Tensor, distances: Tensor, first: Tensor, num_clusters: int, max_iterations: int, tolerance: float
) -> Clusters:
    """k-medoids++ once the distances are known; see `kmedoids`.

    Args:
        points: float ``[B, N, C]``, in whose unit `tolerance` is.
        distances: float ``[B, N, N]``, contiguous.
        first: int64 ``[B]``, the first medoids.
        num_clusters: K, from 1 to N.
        max_iterations: at most so many rounds.
        tolerance: a sample is done when its medoids' summed shift is below it.
    """
    medoids = farthest_points(distances, first, num_clusters)
    medoids = refine(points, distances, medoids, max_iterations, tolerance)
    medoids = medoids.sort(dim=1).values
    return Clusters(assign(distances, medoids), medoids)


def _as_published(distances: Tensor) -> Tensor:
    """Cosine distances, shifted in place below -1 as the published implementation shifts all its distances.

    An offset changes no comparison but for rounding, and rounding decides between the members of a cluster of two.
    Euclidean self-distances are noise far above it (see `pairwise_distances`); cosine distances are not, so only with
    the same offset, which is the maximum over the whole batch, are the medoids the same. The price: for cosine
    distances such a tie can fall differently in another batch.
    """
    return distances.sub_(distances.amax()).sub_(1.0)


def no_clusters(tokens: Tensor, num_clusters: int) -> Clusters:
    """What comes out for no samples, ``[0, N, C]``."""
    assignments, medoids = (
        torch.empty(0, length, dtype=torch.int64, device=tokens.device) for length in (tokens.shape[1], num_clusters)
    )
    return Clusters(assignments, medoids)


def check_options(
    tokens: Tensor, num_clusters: int, metric: str, p: float, max_iterations: int, tolerance: float
) -> None:
    """Raises ConfigError for what cannot be clustered; see `kmedoids`."""
    if tokens.ndim != 3 or not tokens.is_floating_point():
        raise ConfigError(
            f"tokens of shape {list(tokens.shape)} and dtype {tokens.dtype} cannot be clustered",
            "pass floating point tokens of shape [batch, tokens, channels]",
        )
    if not 1 <= num_clusters <= tokens.shape[1]:
        raise ConfigError(
            f"num_clusters is {num_clusters}, but there are {tokens.shape[1]} tokens a sample",
            f"choose num_clusters from 1 to {tokens.shape[1]}",
        )
    check_metric(metric, p)
    if max_iterations < 0:
        raise ConfigError(f"max_iterations is {max_iterations}, but cannot be negative", "0 keeps the seeds")
    if not tolerance >= 0:
        raise ConfigError(f"tolerance is {tolerance}, but cannot be negative", "0 goes on until nothing moves")


def check_finite(tokens: Tensor, norms: Tensor, distances: Tensor, metric: str, p: float) -> None:
    """Raises NonFiniteError, which names the first token concerned; `norms` are those of `tokens`."""
    # A token with NaN or infinity has such a norm: B * N numbers to look at, not B * N * C. One wait for the device.
    if bool(torch.isfinite(norms).all() & torch.isfinite(distances.amax())):
        return
    finite = torch.isfinite(tokens)
    if not finite.all():
        sample, token, _ = (~finite).nonzero()[0].tolist()
        raise NonFiniteError(
            f"token {token} of sample {sample} holds NaN or infinity and cannot be clustered",
            "find where it appears: too high a learning rate, a 16-bit overflow, or a broken checkpoint",
        )
    raise NonFiniteError(
        f"{metric} distances of tokens as large as {tokens.abs().max().item():g} overflow float32 with p={p:g}",
        "scale the tokens down, pass normalize=True, or choose a smaller p",
    )
