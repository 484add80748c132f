"""Batches of all processes put together, for a loss over the global batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from centerclip_pl.errors import ConfigError

_MAX_DIMS = 8


def gather_with_grad(tensor: Tensor) -> Tensor:
    """Concatenates the tensors of all processes along the first dimension, in the order of their ranks.

    The gradient of a process's own rows is the sum of what all processes found for them. So, where each process
    computes the same loss of the global batch and DDP takes the mean of the parameters' gradients over the processes,
    every parameter gets the gradient that one process with the whole batch would find: those behind the embeddings
    (a sum of equal terms, divided by as many) and those behind the gather, such as the logit scale (equal in all).

    All processes must call it, and call backward. Without a process group the tensor itself is returned.

    Args:
        tensor: ``[b, ...]``; b may differ among the processes and be 0, the rest of the shape may not. Bool and
            integers may be gathered too.

    Returns:
        ``[sum of b, ...]``.

    Raises:
        ConfigError: in every process, when shapes differ among them in more than the first dimension.
    """
    if not _several():
        return tensor
    gathered: Tensor = _Gather.apply(tensor, _rows_of_each(tensor))
    return gathered


def rows_before(count: int, device: torch.device) -> int:
    """Rows of a batch that processes of lower rank have, where this one has `count`; all processes must call it."""
    if not _several():
        return 0
    counts = [torch.empty(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([count], device=device))
    return int(torch.cat(counts)[: dist.get_rank()].sum())


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rows: list[int]) -> Tensor:
        ctx.rows = rows
        longest = max(rows)
        own = tensor.contiguous()
        if len(own) < longest:  # a collective moves tensors of one shape
            own = torch.cat([own, own.new_zeros(longest - len(own), *own.shape[1:])])
        parts = [torch.empty_like(own) for _ in rows]
        dist.all_gather(parts, own)
        return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.split(ctx.rows)[dist.get_rank()], None


def _rows_of_each(tensor: Tensor) -> list[int]:
    """How many rows each process has. Collectives over other shapes would hang or mix up memory: these travel first."""
    if not 1 <= tensor.ndim <= _MAX_DIMS:
        raise ConfigError(f"a tensor of {tensor.ndim} dimensions cannot be gathered", "pass one of shape [batch, ...]")
    shape = [tensor.ndim, *tensor.shape]
    own = torch.tensor(shape + [0] * (_MAX_DIMS + 1 - len(shape)), device=tensor.device)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    shapes = [part[1 : 1 + part[0]].tolist() for part in torch.stack(parts).cpu()]
    if any(shape[1:] != shapes[0][1:] or len(shape) != len(shapes[0]) for shape in shapes):
        listed = ", ".join(map(str, shapes))
        raise ConfigError(
            f"the processes hold tensors of different shapes, in the order of their ranks: {listed}",
            "only the first dimension may differ: give all processes the same model, frames and segments",
        )
    return [shape[0] for shape in shapes]
