"""Cosines of texts and pooled videos, each of them one definite float32 number whatever is computed beside it.

The cosine of a pair is *defined* in float64 by operations of which IEEE 754 fixes every result: products of the two
unit vectors' components, summed in halves (`_sum_in_halves`), then rounded to float32. It is a function of the two
embeddings alone: not of the chunk, the number of threads or processes, or the library that multiplies matrices. Copies
of a video have the same cosine with each text, and tie.

Computed that way for all pairs it would take many times as long as a product of matrices. So products of matrices are
used where they cannot differ from it, which is known from the error bound of a sum of products in any order (N. Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1): with unit roundoff u and D terms it is at most
``D u / (1 - D u)`` times the sum of the absolute products, itself at most 1 for unit vectors. The few other pairs are
computed as defined.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from centerclip_pl.types import VideoEmbedding

_AT_ONCE = 2**20  # numbers that are computed with at a time, 8 MiB of float64
_DENSE = 64  # more than one pair in so many: a bound for each pair is worth a second product
_SHORTEST = 1e-12  # as in torch.nn.functional.normalize: nothing is divided by a smaller norm


class Cosines:
    """The cosines of some texts with some videos.

    Works on the CPU, wherever the embeddings are: float64 is not to be had on every accelerator, and slow on many.
    Holds nothing as large as the embeddings, which are not copied where they are on the CPU.

    Args:
        text: float32 ``[Q, D]``.
        video: float32 segments ``[V, S, D]`` and mask ``[V, S]``; what masked segments hold does not matter.
    """

    def __init__(self, text: Tensor, video: VideoEmbedding) -> None:
        self.text = text.cpu()
        self.segments, self.mask = video.segments.cpu(), video.mask.cpu().bool()
        rows = max(1, _AT_ONCE // max(1, self.channels))
        norms = [_norm(part.double()) for part in self.text.split(rows)]
        self._norms = torch.cat(norms) if norms else torch.empty(0, 1, dtype=torch.float64)

    @property
    def channels(self) -> int:
        """D."""
        return self.text.shape[1]

    def texts(self, rows: slice | Tensor) -> Tensor:
        """Unit vectors of texts: float64 ``[r, D]``."""
        return self.text[rows].double().div_(self._norms[rows])

    def videos(self, part: slice) -> Tensor:
        """Unit vectors of videos, the mean of their segments' unit vectors made one: float64 ``[c, D]``.

        As `centerclip_pl.retrieval.similarity.pool_segments`, but for the order of sums.
        """
        segments, mask = self.segments[part], self.mask[part]
        at_once = max(1, _AT_ONCE // max(1, segments.shape[1] * segments.shape[2]))
        pooled = torch.empty(len(segments), segments.shape[2], dtype=torch.float64)
        for start in range(0, len(segments), at_once):
            some = slice(start, start + at_once)
            counts = mask[some, :, None]
            units = segments[some].double().masked_fill_(~counts, 0.0)  # (b, S, D)
            units /= _norm(units)
            total = units[:, 0]
            for segment in range(1, units.shape[1]):  # one after the other: an order that no library chooses
                total = total + units[:, segment]
            mean = total / counts.sum(1)
            pooled[some] = mean / _norm(mean)
        return pooled

    def block(self, part: slice) -> Tensor:
        """Of all texts with some videos: float32 ``[Q, c]``."""
        videos = self.videos(part)
        found = torch.empty(len(self.text), len(videos))
        rows = max(1, _AT_ONCE // max(1, len(videos)))
        for start in range(0, len(found), rows):
            some = slice(start, start + rows)
            found[some] = products(self.texts(some), videos)
        return found


def of_pairs(texts: Tensor, videos: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Cosines as they are defined, pair by pair.

    Args:
        texts: unit vectors, float64 ``[r, D]``.
        videos: unit vectors, float64 ``[c, D]``.
        rows, columns: int64 ``[n]``: text and video of each pair.

    Returns:
        float32 ``[n]``.
    """
    found = torch.empty(len(rows))
    at_once = max(1, _AT_ONCE // max(1, texts.shape[1]))
    for start in range(0, len(rows), at_once):
        some = slice(start, start + at_once)
        found[some] = _sum_in_halves(texts[rows[some]].mul_(videos[columns[some]])).float()
    return found


def products(texts: Tensor, videos: Tensor) -> Tensor:
    """The same numbers as `of_pairs` for all pairs: float64 ``[r, D]`` and ``[c, D]`` -> float32 ``[r, c]``.

    A float64 product of matrices and the definition differ by the errors of both, 2 D u at most. Where that much less
    and that much more round to the same float32, so does the definition, for rounding keeps the order.
    """
    exact = texts @ videos.mT
    error = sum_error(texts.shape[1], 2.0**-53, of=2)
    lower = (exact - error).float()
    unsure = lower != (exact + error).float()
    if int(unsure.sum()) * _DENSE > unsure.numel():
        # Zeros, mostly: float32 is dense there, so that any error matters. A pair's own bound is zero where all its
        # products are.
        errors = (texts.abs() @ videos.mT.abs()).mul_(error)
        lower = (exact - errors).float()
        unsure = lower != (exact + errors).float()
    rows, columns = unsure.nonzero(as_tuple=True)
    lower[rows, columns] = of_pairs(texts, videos, rows, columns)
    return lower


def sum_error(channels: int, roundoff: float, of: int = 1) -> float:
    """By how much `of` ways to sum D products may differ, for unit vectors: infinite where D is too large to say.

    A few units more than the bound: the unit vectors' own norms, and what is added to the bound, are rounded too; and a
    product that underflows, to zero at worst, loses less than 2^-126 each time.
    """
    terms = channels + 8
    return of * terms * roundoff * 1.01 if terms * roundoff < 0.005 else math.inf


def _norm(vectors: Tensor) -> Tensor:
    """float64 ``[..., D]`` -> ``[..., 1]``. Squares of float32 numbers neither overflow nor underflow in float64."""
    return _sum_in_halves(vectors * vectors).sqrt()[..., None].clamp_min(_SHORTEST)


def _sum_in_halves(values: Tensor) -> Tensor:
    """Sums ``[..., D]`` -> ``[...]``, overwriting `values`: the second half is added to the first until one is left.

    Element by element, so that IEEE 754 fixes the result; torch's own sums may take another order for another shape.
    """
    width = values.shape[-1]
    if width == 0:
        return values.new_zeros(values.shape[:-1])
    while width > 1:
        half = (width + 1) // 2
        values[..., : width - half] += values[..., half:width]
        width = half
    return values[..., 0]
