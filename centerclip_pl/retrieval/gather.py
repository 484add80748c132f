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
        tensor: ``[b, ...]``, of the same shape in every process; bool and integers may be gathered too.

    Returns:
        ``[processes * b, ...]``.

    Raises:
        ConfigError: in every process, when shapes differ among them.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensor
    _check_shapes(tensor)
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def _check_shapes(tensor: Tensor) -> None:
    """A collective over unequal shapes would hang or mix up memory, so the shapes travel first."""
    if not 1 <= tensor.ndim <= _MAX_DIMS:
        raise ConfigError(f"a tensor of {tensor.ndim} dimensions cannot be gathered", "pass one of shape [batch, ...]")
    shape = [tensor.ndim, *tensor.shape]
    own = torch.tensor(shape + [0] * (_MAX_DIMS + 1 - len(shape)), device=tensor.device)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    shapes = [part[1 : 1 + part[0]] for part in torch.stack(parts).cpu()]
    if any(not torch.equal(shape, shapes[0]) for shape in shapes):
        listed = ", ".join(str(shape.tolist()) for shape in shapes)
        raise ConfigError(
            f"the processes hold tensors of different shapes, in the order of their ranks: {listed}",
            "give each process batches of the same size: drop_last=True in the training loader",
        )
