"""Keeps account of all tensors of a computation by their lifetime: what is held at the moment when most is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

ACTIVATIONS, TEMPORARIES = "activations", "temporaries"


class Ledger(TorchDispatchMode):
    """While it is entered, every tensor that an operation makes is booked, and its release too.

    It counts storages, so views and results in place cost nothing. What an operation needs inside itself is not seen.
    Meant for `torch._subclasses.fake_tensor.FakeTensorMode`, under which nothing is computed: what Python
    asks a tensor for (``tensor.item()``) is then 1, or False.

    What is made while gradients are recorded counts as activations (a second forward pass under gradient checkpointing
    too), all else as temporaries, unless a `label` is set or the tensor is claimed (`claim`), then or later.

    Args:
        granularity: bytes to whose multiples each storage is rounded up; 512 is that of torch's allocator for CUDA.
    """

    def __init__(self, granularity: int = 1) -> None:
        super().__init__()
        self.granularity = granularity
        self._changes: list[tuple[int, int]] = []
        """Number of a storage and the bytes that were taken (or, negative, released), in order of time."""
        self._live: dict[int, tuple[int, weakref.ref[torch.UntypedStorage]]] = {}
        """By address."""
        self._labels: list[str] = []
        """Of storages by number."""
        self._label: str | None = None

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            return args[0].dtype != torch.bool
        if function is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # asked for all the time
        result = function(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._book(value)
        return result

    def _book(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._live:
            return self._live[address][0]
        number = len(self._labels)
        size = -(-storage.nbytes() // self.granularity) * self.granularity
        made_by = ACTIVATIONS if torch.is_grad_enabled() else TEMPORARIES
        self._labels.append(self._label or made_by)
        self._changes.append((number, size))
        self._live[address] = (number, weakref.ref(storage, self._releaser(address, number, size)))
        return number

    def _releaser(self, address: int, number: int, size: int) -> Callable[[object], None]:
        # Of the account's parts alone: the account itself may be gone before the tensors are.
        live, changes = self._live, self._changes

        def release(_: object) -> None:
            changes.append((number, -size))
            del live[address]

        return release

    def claim(self, label: str, tensors: Iterable[Tensor]) -> None:
        """Says what tensors are, those that are booked and those that are not yet."""
        for tensor in tensors:
            self._labels[self._book(tensor)] = label

    @contextmanager
    def label(self, label: str) -> Iterator[None]:
        """What is made inside is called so."""
        before, self._label = self._label, label
        try:
            yield
        finally:
            self._label = before

    def held(self) -> int:
        """Bytes that are held now."""
        return sum(size for _, size in self._changes)

    def forget(self) -> None:
        """Starts the account anew from what is held now."""
        held = self._by_number(len(self._changes))
        self._changes[:] = list(held.items())

    def peak(self) -> dict[str, int]:
        """Bytes by label at the moment when most was held, the last of these."""
        total = highest = moment = 0
        for time, (_, size) in enumerate(self._changes, start=1):
            total += size
            if total >= highest:
                highest, moment = total, time
        parts: dict[str, int] = {}
        for number, size in self._by_number(moment).items():
            parts[self._labels[number]] = parts.get(self._labels[number], 0) + size
        return parts

    def _by_number(self, moment: int) -> dict[int, int]:
        held: dict[int, int] = {}
        for number, size in self._changes[:moment]:
            if size >= 0:
                held[number] = size
            else:
                del held[number]
        return held
