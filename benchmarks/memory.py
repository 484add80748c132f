"""The most memory that tensors hold during a call, beyond what they held before it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MEBIBYTE = 2**20


def peak_memory(call: Callable[[], object], device: str = "cpu") -> float:
    """MiB beyond what is allocated when the call begins.

    On a CPU every allocation and release of torch's allocator is recorded by its profiler; on a GPU torch keeps count.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MEBIBYTE
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events: Iterable[Any] = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return highest_sum(size for _, size in sizes) / MEBIBYTE


def highest_sum(changes: Iterable[int]) -> int:
    """The highest running sum, at least 0."""
    held = highest = 0
    for change in changes:
        held += change
        highest = max(highest, held)
    return highest
