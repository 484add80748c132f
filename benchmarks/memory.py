"""Memory: the most that tensors hold during a call, beyond what they held before it; and how much there is."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MEBIBYTE = 2**20
_CGROUP = Path("/sys/fs/cgroup")


def peak_memory(call: Callable[[], object], device: str = "cpu") -> float:
    """MiB beyond what is allocated when the call begins.

    On a CPU every allocation and release of torch's allocator during the call is recorded by its profiler: bytes asked
    for, whatever the C library makes of them. The release of what was there before is not recorded, so a call that
    releases it is not credited with that. On a GPU torch keeps count, in its own rounding.

    Args:
        call: made once. Let it run before where its first run leaves something behind: gradients, say, or the state of
            an optimiser.
        device: ``"cpu"`` or ``"cuda"``.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MEBIBYTE
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events: Iterable[Any] = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    changes.sort(key=lambda change: change[0])  # those of one nanosecond stay in the order in which they are recorded
    return highest_sum(size for _, size in changes) / MEBIBYTE


def highest_sum(changes: Iterable[int]) -> int:
    """The highest running sum, at least 0."""
    held = highest = 0
    for change in changes:
        held += change
        highest = max(highest, held)
    return highest


def available_memory(device: str = "cpu") -> float:
    """MiB that can still be taken; infinity where the system does not say.

    To be asked before something large: Linux grants memory that it does not have, and later kills the process.
    """
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0] / MEBIBYTE
    found = [float("inf")]
    try:
        kibibytes = re.search(r"MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_text())
        if kibibytes is not None:
            found.append(int(kibibytes[1]) / 1024)
    except OSError:
        pass
    try:  # of a container
        most, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if most != "max":
            found.append((int(most) - int(used)) / MEBIBYTE)
    except (OSError, ValueError):
        pass
    return min(found)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and re.search("allocate memory|out of memory", str(error)) is not None
