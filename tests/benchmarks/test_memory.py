"""The memory meter on allocations whose sizes are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import memory
from benchmarks.memory import available_memory, highest_sum, is_out_of_memory, peak_memory

MIB = 2**20 // 4
"""Float32 numbers of one mebibyte."""


def test_the_peak_is_of_what_lives_together() -> None:
    def call() -> None:
        first = torch.empty(3 * MIB)
        second = torch.empty(5 * MIB)  # 8 together
        del first, second
        third = torch.empty(6 * MIB)
        del third

    assert peak_memory(call) == pytest.approx(8, abs=1e-3)


def test_what_was_there_before_does_not_count() -> None:
    before = torch.empty(64 * MIB)
    assert peak_memory(lambda: before.zero_()) == 0.0
    assert peak_memory(lambda: before[:MIB] + 1) == pytest.approx(1, abs=1e-3)


def test_what_the_call_leaves_counts() -> None:
    kept: list[torch.Tensor] = []
    assert peak_memory(lambda: kept.append(torch.empty(2 * MIB))) == pytest.approx(2, abs=1e-3)


def test_activations_of_a_backward_pass() -> None:
    """Of x -> relu -> relu -> sum, both results live until backward; then a gradient of each in turn beside them."""
    inputs = torch.ones(4 * MIB, requires_grad=True)
    inputs.grad = torch.zeros_like(inputs)  # as after an earlier step

    def step() -> None:
        inputs.relu().relu().sum().backward()

    peak = peak_memory(step)
    assert 8 < peak <= 16 + 1e-3
    kept = peak_memory(lambda: inputs.relu().relu().sum())
    assert kept == pytest.approx(8, abs=1e-3)
    with torch.no_grad():
        assert peak_memory(lambda: inputs.relu().relu().sum()) == pytest.approx(8, abs=1e-3)


def test_recomputing_needs_less() -> None:
    """As a figure that is known to fall."""
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Tanh(), nn.Tanh()) for _ in range(6)))
    inputs = torch.randn(4096, 64)

    def step(recompute: bool) -> None:
        states = inputs
        for block in blocks:
            if recompute:
                states = torch.utils.checkpoint.checkpoint(block, states, use_reentrant=False)
            else:
                states = block(states)
        states.sum().backward()

    step(False)
    plain, recomputed = peak_memory(lambda: step(False)), peak_memory(lambda: step(True))
    # Each of 24 layers keeps its result, 1 MiB. Otherwise 6 inputs of blocks and the 4 results of one block are kept.
    assert plain == pytest.approx(24, abs=4)
    assert recomputed == pytest.approx(10, abs=4)


@pytest.mark.parametrize(("changes", "highest"), [([], 0), ([-3, 2], 0), ([4, -4, 3], 4), ([2, 3, -1, 2], 6)])
def test_highest_sum(changes: list[int], highest: int) -> None:
    assert highest_sum(changes) == highest


def test_a_container_may_have_less_than_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = available_memory()
    assert whole > 0
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text(f"{3 * 2**20}\n")
    (tmp_path / "memory.max").write_text(f"{10 * 2**20}\n")
    assert available_memory() == 7.0
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 7.0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_is_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_cpu_allocator_says_so_in_these_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert is_out_of_memory(caught.value)
