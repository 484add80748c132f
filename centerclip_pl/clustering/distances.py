"""Distances between all pairs of tokens of a sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError

Metric = Literal["euclidean", "cosine"]

# Keeps the direction of a token of norm zero defined (as zero). The published implementation adds the same number.
_TINY_NORM = 1e-6

# Up to so many tokens `torch.cdist` takes differences, which is exact, and above it the product.
_FEWEST_FOR_PRODUCT = 25


def check_metric(metric: str, p: float) -> None:
    """Raises ConfigError for a `metric` that does not exist and for an order `p` that is not positive."""
    if metric not in get_args(Metric):
        raise ConfigError(f"metric is {metric!r}", f"choose one of {', '.join(map(repr, get_args(Metric)))}")
    if not p > 0:  # NaN too
        raise ConfigError(f"p is {p}, but the order of a Minkowski distance is positive", "2 is the Euclidean distance")


def pairwise_distances(tokens: Tensor, metric: Metric = "euclidean", p: float = 2.0) -> Tensor:
    """Distances between all pairs of tokens of each sample.

    Above 25 tokens Euclidean distances come from a matrix product, ``|x|^2 + |y|^2 - 2 x.y``, in the arithmetic of
    `torch.cdist` and so of the published implementation: fast, but a token's distance to itself is then rounding noise
    (about 1e-3 of its norm), and not zero. Identical tokens have identical rows.

    Args:
        tokens: float32 ``[B, N, C]``.
        metric: ``"euclidean"``: the Minkowski distance of order `p`; ``"cosine"``: 1 - cos, where cos with a token of
            norm zero is 0.
        p: a positive number, or infinity. Ignored for ``"cosine"``.

    Returns:
        float32 ``[B, N, N]``, contiguous, the only tensor of that size that is made.

    Raises:
        ConfigError: no such metric, or `p` is not positive.
    """
    check_metric(metric, p)
    with full_float32_products():
        if metric == "euclidean":
            if p == 2 and tokens.shape[1] > _FEWEST_FOR_PRODUCT:
                return _euclidean_by_product(tokens)
            return torch.cdist(tokens, tokens, p=float(p))
        directions = unit(tokens)
        return (directions @ directions.mT).neg_().add_(1.0)


def _euclidean_by_product(tokens: Tensor) -> Tensor:
    """``torch.cdist(tokens, tokens)``, bit for bit, in less time and memory.

    It is the square root of ``[-2x, |x|^2, 1] . [y, 1, |y|^2]``; that both sides are the same tokens saves the second
    computation of the norms, and writing the factors in place saves their temporary copies.
    """
    batch, count, channels = tokens.shape
    left, right = tokens.new_empty(2, batch, count, channels + 2)
    squares = torch.mul(tokens, tokens, out=left[..., :channels]).sum(dim=-1)  # (B, N)
    torch.mul(tokens, -2, out=left[..., :channels])
    left[..., channels], left[..., channels + 1] = squares, 1.0
    right[..., :channels] = tokens
    right[..., channels], right[..., channels + 1] = 1.0, squares
    return torch.bmm(left, right.mT).clamp_min_(0.0).sqrt_()  # (B, N, N)


def unit(tokens: Tensor) -> Tensor:
    """Tokens ``[..., C]`` divided by their L2 norm; a token of zeros stays so."""
    return tokens / (torch.linalg.vector_norm(tokens, dim=-1, keepdim=True) + _TINY_NORM)


@contextmanager
def full_float32_products() -> Iterator[None]:
    """Matrix products of float32 tensors in float32, whatever torch is told elsewhere.

    ``torch.set_float32_matmul_precision("high")``, which Lightning recommends, cuts the factors to 10 bits (on a CPU
    even to bfloat16): enough for a layer of a network, but the difference of two long tokens would drown in it.
    """
    backends: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    backends = [backend for backend in backends if hasattr(backend, "fp32_precision")]  # torch >= 2.9
    precisions = [backend.fp32_precision for backend in backends]
    if backends and all(precision in ("none", "ieee") for precision in precisions):
        yield  # as it is unless someone asked for less
        return
    before: str | None
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # the user set the newer switches alone: torch then refuses to read the older one
        before = None
    try:
        if before is not None:
            torch.set_float32_matmul_precision("highest")
        else:
            for backend in backends:
                backend.fp32_precision = "ieee"
        yield
    finally:
        if before is not None:
            torch.set_float32_matmul_precision(before)
        for backend, precision in zip(backends, precisions, strict=True):
            backend.fp32_precision = precision
