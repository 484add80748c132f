"""Counts of True in rows and columns of masks, eight at a time.

A mask holds a byte of 0 or 1 for each pair, so eight neighbours are one int64, and a sum of up to 255 such int64 holds
the eight sums side by side, none reaching the next. That is some ten times as fast as `Tensor.sum`, which first makes
an int64 of every byte.
"""

from __future__ import annotations

import torch
from torch import Tensor

EIGHT = 8
_MOST = 255


def padded(columns: int) -> int:
    """The least multiple of eight that is not less: so many columns a mask needs here."""
    return -(-columns // EIGHT) * EIGHT


def count_rows(mask: Tensor) -> Tensor:
    """How many of each row are True: contiguous bool ``[r, 8 w]`` -> int64 ``[r]``."""
    sums = [words.sum(1) for words in mask.view(torch.int64).split(_MOST, dim=1)]
    return torch.stack(sums, 1).view(torch.uint8).sum(1)


def count_columns(mask: Tensor) -> Tensor:
    """How many of each column are True: contiguous bool ``[r, 8 w]`` -> int64 ``[8 w]``."""
    sums = [words.sum(0) for words in mask.view(torch.int64).split(_MOST, dim=0)]
    return torch.stack(sums).view(torch.uint8).sum(0)


def any_of_groups(mask: Tensor, first: Tensor) -> Tensor:
    """Whether any row of each group is True.

    Args:
        mask: contiguous bool ``[r, 8 w]``, the rows of a group one after another; r at least 1.
        first: int64 ``[m]``: the first row of each group, ascending, from 0; none is empty.

    Returns:
        Contiguous bool ``[m, 8 w]``.
    """
    words = mask.view(torch.int64)
    sizes = torch.diff(first, append=first.new_tensor([len(words)]))
    while len(words) > len(sizes):
        # Each row of an even place in its group takes in the next, which halves the groups.
        start = sizes.cumsum(0) - sizes
        place = torch.arange(len(words)) - start.repeat_interleave(sizes)
        even = (place % 2 == 0).nonzero()[:, 0]
        joined = words[even]
        with_next = (place + 1 < sizes.repeat_interleave(sizes))[even].nonzero()[:, 0]
        joined[with_next] |= words[even[with_next] + 1]
        words, sizes = joined, (sizes + 1) // 2
    return words.view(torch.bool)
