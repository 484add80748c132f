"""Spectral clustering of many small sets of tokens at once (CenterCLIP, arXiv 2205.00823, section 3.3.2)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip_pl.clustering.distances import unit
from centerclip_pl.clustering.kmedoids import (
    Clusters,
    check_finite,
    check_options,
    cluster_distances,
    no_clusters,
)
from centerclip_pl.errors import ConfigError

Graph = Literal["heat", "knn"]

NEIGHBOURS_A_FRAME = 5
"""Of a token, for each frame of its segment, in the "knn" graph, as CenterCLIP has it."""

# Beyond, its square or the inverse of that is no number: all affinities were NaN.
_SIGMAS = 1e-15, 1e15


@torch.compiler.disable  # the rounds of k-medoids at its end depend on the data
@torch.no_grad()
def spectral(
    tokens: Tensor,
    num_clusters: int,
    *,
    graph: Graph = "heat",
    sigma: float = 2.0,
    neighbours: int | None = None,
    window: tuple[int, int, int] | None = None,
    grid: tuple[int, int, int] | None = None,
    normalize: bool = False,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
) -> Clusters:
    """Clusters the tokens of each sample by the graph that connects them.

    The affinity of two tokens is ``W = exp(-d^2 / (2 sigma^2))`` of their Euclidean distance d, 1 with itself. Of
    ``L = I - D^-1/2 W D^-1/2``, D being the row sums of W, the K eigenvectors of the smallest eigenvalues are taken;
    the N rows of that matrix, L2-normalised, are clustered by k-medoids++ (see `kmedoids`). The eigenvectors are those
    of a symmetric solver: signs, and the choice of a basis for equal eigenvalues, change no distance between rows.

    As all rows have unit length, none is longest. The published implementation lets rounding choose the first medoid;
    here it is the token of largest L2 norm, as in `kmedoids`. Distances between rows are made exactly symmetric, with
    zeros for a row and itself, so that of a cluster of two the lower index becomes the medoid.

    It works in float64 (float32 on devices that have no other), autocast off, without gradients: rows of tokens that
    belong together are nearly equal, and in float32 the eigensolver's rounding would choose among them. Memory: a few
    tensors ``[B, N, N]``.

    Args:
        tokens: floating point ``[B, N, C]``, finite.
        num_clusters: K, at most N.
        graph: ``"heat"``: all tokens are connected; ``"knn"``: only those of which one is among the other's nearest.
        sigma: width of the affinity, in the unit of the tokens. Where tokens are many sigmas apart, all affinities
            vanish and the clusters mean nothing: normalise the tokens or choose a larger one.
        neighbours: k of the "knn" graph, the token itself among them; None: 5, or 5 for each frame of `grid`.
        window: frames, rows and columns, odd numbers: only tokens within such a box around each other are connected.
        grid: frames, rows and columns in which the N tokens are laid out, columns fastest; needed for `window`.
        normalize: L2-normalise the tokens before measuring distances.
        max_iterations: rounds of k-medoids at most.
        tolerance: of k-medoids, in the unit of the embedding (rows have length 1).

    Returns:
        Assignments ``[B, N]`` and medoids ``[B, K]``, ascending, int64, on the device of `tokens`. No cluster is
        empty.

    Raises:
        ConfigError: a shape, dtype or option that cannot work.
        NonFiniteError: NaN or infinity among the tokens, or tokens so large that their distances overflow.
    """
    check_options(tokens, num_clusters, "euclidean", 2.0, max_iterations, tolerance)
    check_graph(graph, sigma, neighbours, window)
    batch, count, _ = tokens.shape
    if window is not None and grid is None:
        raise ConfigError("a window needs to know how the tokens are laid out", "pass grid=(frames, rows, columns)")
    if grid is not None and grid[0] * grid[1] * grid[2] != count:
        raise ConfigError(
            f"grid {grid} has {grid[0] * grid[1] * grid[2]} places, but there are {count} tokens a sample"
        )
    if batch == 0:
        return no_clusters(tokens, num_clusters)
    with torch.autocast(tokens.device.type, enabled=False):
        points = tokens.float().contiguous()
        norms = torch.linalg.vector_norm(points, dim=-1)  # (B, N)
        if normalize:
            points = unit(points)
        points = points.to(torch.float32 if points.device.type == "mps" else torch.float64)
        squares = _squared_distances(points)  # (B, N, N)
        check_finite(tokens, norms, squares, "euclidean", 2.0)
        affinity = squares.mul(-0.5 / sigma**2).exp_()
        if graph == "knn":
            frames = 1 if grid is None else grid[0]
            k = min(NEIGHBOURS_A_FRAME * frames if neighbours is None else neighbours, count)
            affinity.masked_fill_(~_nearest(squares, k), 0.0)
        if window is not None and grid is not None:
            affinity.masked_fill_(~_within(window, grid, tokens.device), 0.0)
        del squares
        rows = F.normalize(_smallest_eigenvectors(affinity, num_clusters), dim=-1)  # (B, N, K)
        del affinity
        distances = _squared_distances(rows).sqrt_()
        return cluster_distances(rows, distances, norms.argmax(dim=1), num_clusters, max_iterations, tolerance)


def check_graph(graph: str, sigma: float, neighbours: int | None, window: tuple[int, int, int] | None) -> None:
    """Raises ConfigError for options of `spectral` that cannot work with any tokens."""
    if graph not in get_args(Graph):
        raise ConfigError(f"graph is {graph!r}", f"choose one of {', '.join(map(repr, get_args(Graph)))}")
    if not _SIGMAS[0] <= sigma <= _SIGMAS[1]:  # NaN too
        raise ConfigError(
            f"sigma is {sigma}, but must be positive, from {_SIGMAS[0]:g} to {_SIGMAS[1]:g}", "2 is the paper's"
        )
    if neighbours is not None and neighbours < 1:
        raise ConfigError(f"neighbours is {neighbours}, but must be at least 1 (a token is its own first neighbour)")
    if window is not None and (len(window) != 3 or any(side < 1 or side % 2 == 0 for side in window)):
        raise ConfigError(f"window is {window}, but must be three odd numbers: frames, rows, columns")


def _squared_distances(points: Tensor) -> Tensor:
    """Between all pairs of points ``[B, N, C]``: exactly symmetric, exactly zero for a point and itself."""
    products = torch.bmm(points, points.mT)
    products = products.add(products.mT).mul_(0.5)
    lengths = products.diagonal(dim1=1, dim2=2).clone()  # (B, N)
    squares = products.mul_(-2).add_(lengths[:, :, None]).add_(lengths[:, None, :]).clamp_min_(0.0)
    squares.diagonal(dim1=1, dim2=2).zero_()
    return squares


def _nearest(distances: Tensor, k: int) -> Tensor:
    """Which tokens are connected ``[B, N, N]``: i and j, if j is among the k nearest of i, or i among those of j."""
    own = torch.eye(distances.shape[1], dtype=torch.bool, device=distances.device)
    found = distances.masked_fill(own, -1.0).topk(k, dim=2, largest=False).indices  # (B, N, k), itself first
    near = torch.zeros_like(distances, dtype=torch.bool).scatter_(2, found, True)
    return near | near.mT


def _within(window: tuple[int, int, int], grid: tuple[int, int, int], device: torch.device) -> Tensor:
    """Which tokens are connected, bool ``[N, N]``: those at most half a window apart in frames, rows and columns."""
    places = torch.cartesian_prod(*(torch.arange(side, device=device) for side in grid))  # (N, 3)
    reach = torch.tensor([side // 2 for side in window], device=device)
    return ((places[:, None] - places[None]).abs() <= reach).all(dim=-1)


def _smallest_eigenvectors(affinity: Tensor, num_clusters: int) -> Tensor:
    """Eigenvectors ``[B, N, K]`` of the smallest eigenvalues of the normalised Laplacian of affinities ``[B, N, N]``.

    They are those of the largest eigenvalues of ``D^-1/2 W D^-1/2``. Overwrites `affinity`.
    """
    scale = affinity.sum(dim=2).rsqrt()  # (B, N); a row sums up to 1 at least, the affinity with itself
    affinity.mul_(scale[:, :, None]).mul_(scale[:, None, :])
    return torch.linalg.eigh(affinity).eigenvectors[:, :, -num_clusters:]  # eigenvalues ascend
