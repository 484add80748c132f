"""How well the tokens that are kept stand for all tokens, and where in a segment they lie.

Kept tokens are centres in the sense of k-medoids and of the k-centre problem (Gonzalez, Theoretical Computer Science
38, 1985): each token of a segment has a distance to the nearest of them. The mean of it is what k-medoids makes small,
the largest one, the covering radius, is what its seeding by farthest points makes small.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from centerclip_pl.clustering.distances import Metric, pairwise_distances, unit
from centerclip_pl.errors import ConfigError

_ROWS_AT_ONCE = 1 << 24  # numbers in the tensor of distances to kept tokens: 128 MiB


class Coverage(NamedTuple):
    """Distances of all tokens of a segment to the nearest token kept. Leading dimensions ``[...]`` as of ``kept``."""

    mean: Tensor
    """float64 ``[...]``: the mean over the segment's tokens, the kept ones (at distance 0) among them."""
    farthest: Tensor
    """float64 ``[...]``: the largest, the covering radius."""
    within: Tensor
    """float64 ``[..., R]``: the share of the tokens at most so far away, for each radius asked for."""


class Spread(NamedTuple):
    """Where in a segment the tokens kept of it lie."""

    frames: Tensor
    """int64 ``[..., D]``: how many of each of the segment's frames."""
    places: Tensor
    """int64 ``[..., N]``: how many of each place of the picture, over the segment's frames."""


def relative_distances(
    tokens: Tensor, metric: Metric = "euclidean", p: float = 2.0, *, normalize: bool = False
) -> Tensor:
    """Distances of all pairs of tokens of a segment, in units of the mean distance of two of its tokens.

    In this unit segments and models can be compared: 0 is the token itself, 1 as far as any other one.

    Args:
        tokens: floating point ``[G, N, C]``, at least two tokens.
        metric: see `pairwise_distances`.
        p: likewise.
        normalize: L2-normalise the tokens before.

    Returns:
        float64 ``[G, N, N]`` with a diagonal of zeros; zeros alone where all tokens of a segment are the same.

    Raises:
        ConfigError: another shape; no such metric.
    """
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        raise ConfigError(f"tokens have shape {list(tokens.shape)}, but must be [G, N, C] with at least two tokens")
    points = tokens.double()  # the product in pairwise_distances then leaves no noise that shows
    distances = pairwise_distances(unit(points) if normalize else points, metric, p).clamp_min_(0)
    distances.diagonal(dim1=1, dim2=2).zero_()
    count = tokens.shape[1]
    mean = distances.sum(dim=(1, 2), keepdim=True) / (count * (count - 1))
    # The same token many times over: rounding in the product (1e-8 of a token's length) is no distance to divide by.
    length = torch.linalg.vector_norm(points, dim=-1).amax(dim=1).view(-1, 1, 1)
    noise = 1e-6 * (torch.ones_like(length) if normalize or metric == "cosine" else length)
    return torch.where(mean > noise, distances / mean.clamp_min(1e-300), torch.zeros_like(distances))


def coverage(distances: Tensor, kept: Tensor, radii: Tensor | None = None) -> Coverage:
    """How far the tokens of each segment are from the nearest token kept of it.

    Args:
        distances: float ``[G, N, N]``, see :func:`relative_distances`.
        kept: int64 ``[G, K]``, or ``[R, G, K]`` for R choices at once.
        radii: float ``[Q]``, in the unit of the distances; None: none.

    Returns:
        With leading dimensions ``[G]`` or ``[R, G]``.

    Raises:
        ConfigError: shapes that do not go together.
    """
    if kept.ndim == 2:
        return Coverage(*(value[0] for value in coverage(distances, kept[None], radii)))
    if distances.ndim != 3 or kept.ndim != 3 or kept.shape[1] != len(distances) or kept.shape[2] < 1:
        raise ConfigError(
            f"distances {list(distances.shape)} and kept {list(kept.shape)} do not go together",
            "pass [G, N, N] and [G, K] or [R, G, K]",
        )
    groups, count, _ = distances.shape
    radii = distances.new_empty(0) if radii is None else radii.to(distances)
    segment = torch.arange(groups, device=distances.device).view(1, -1, 1)
    at_once = max(1, _ROWS_AT_ONCE // (groups * kept.shape[2] * count))
    parts = []
    for choices in kept.split(at_once):
        nearest = distances[segment, choices].amin(dim=2)  # (R, G, K, N) -> (R, G, N)
        shares = [(nearest <= radius).double().mean(dim=-1) for radius in radii]
        within = torch.stack(shares, dim=-1) if shares else nearest.new_empty(*nearest.shape[:2], 0)
        parts.append(Coverage(nearest.mean(dim=-1), nearest.amax(dim=-1), within))
    return Coverage(*(torch.cat(values) for values in zip(*parts, strict=True)))


def random_choices(draws: int, groups: int, tokens: int, kept: int, seed: int = 0) -> Tensor:
    """Tokens chosen at random without replacement, each set alike likely, the same ones for the same seed.

    Args:
        draws: R, how many choices.
        groups: G, segments.
        tokens: N, tokens of a segment.
        kept: K, tokens kept of it.
        seed: of the choices.

    Returns:
        int64 ``[R, G, K]``, ascending along the last.

    Raises:
        ConfigError: K is not from 1 to N.
    """
    if not 1 <= kept <= tokens:
        raise ConfigError(f"kept is {kept}, but must be from 1 to {tokens}, the tokens of a segment")
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(draws, groups, tokens, generator=generator, dtype=torch.float64).argsort(dim=-1)
    return order[..., :kept].sort(dim=-1).values


def spread(kept: Tensor, frames: int, patches: int) -> Spread:
    """How the tokens kept are spread over the frames of their segment and over the places of the picture.

    Args:
        kept: int64 ``[..., K]``, indices into the segment's tokens, frame by frame.
        frames: D, frames of a segment.
        patches: N, patch tokens of a frame.

    Raises:
        ConfigError: an index outside of the segment.
    """
    if kept.numel() and not (int(kept.min()) >= 0 and int(kept.max()) < frames * patches):
        raise ConfigError(f"kept holds indices outside of 0 to {frames * patches - 1}")
    flat = torch.zeros(*kept.shape[:-1], frames * patches, dtype=torch.int64, device=kept.device)
    flat.scatter_add_(-1, kept, torch.ones_like(kept))
    grid = flat.unflatten(-1, (frames, patches))  # (..., D*N) -> (..., D, N)
    return Spread(grid.sum(dim=-1), grid.sum(dim=-2))
