"""Embedding a batch in chunks, so that large batches fit: the memory of one chunk, the loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from centerclip_pl.draws import drawing_for, rows_behind, same_draws_again

_Embedding = TypeVar("_Embedding")


def embed_in_chunks(
    embed: Callable[..., _Embedding],
    inputs: Sequence[Tensor],
    chunk: int,
    join: Callable[[list[_Embedding]], _Embedding],
) -> _Embedding:
    """``embed(*inputs)`` without the memory of its activations (GradCache, Gao et al., arXiv 2101.06983).

    Each chunk is embedded without keeping activations. When the gradient of the whole batch's loss comes back, chunk
    after chunk is embedded a second time, with its activations, and its part of the gradient is computed. Loss and
    gradients are those of the whole batch; the price is the second forward pass. Random draws, the state of torch's
    generators and autocast are the same both times.

    The parameters see one gradient, summed over the chunks, so DDP sends it once, as without chunks.

    Args:
        embed: a tower, whose rows do not depend on each other.
        inputs: tensors of the same length ``[B, ...]``.
        chunk: rows at a time.
        join: puts the chunks' results together.

    Returns:
        As `embed`.
    """
    rows = len(inputs[0])
    if not torch.is_grad_enabled() or rows <= chunk:
        return embed(*inputs)
    parts = []
    for start in range(0, rows, chunk):
        # Their draws are those of their places in the batch.
        with drawing_for(rows_behind(start)):
            given = [tensor[start : start + chunk] for tensor in inputs]
            parts.append(
                checkpoint(_without_shared_casts, embed, *given, use_reentrant=False, context_fn=same_draws_again)
            )
    return join(parts)


def _without_shared_casts(embed: Callable[..., _Embedding], *inputs: Tensor) -> _Embedding:
    """Autocast would keep its copies of the weights over the chunks, and add their gradients up in bfloat16."""
    device = inputs[0].device.type
    if not torch.is_autocast_enabled(device):
        return embed(*inputs)
    with torch.autocast(device, dtype=torch.get_autocast_dtype(device), cache_enabled=False):
        return embed(*inputs)
