"""measure_cost against counts done by hand and against modules whose time is known."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from centerclip_pl.training.cost import measure_cost

B, T, N, C, HEADS = 1, 4, 50, 32, 4  # N: 7 x 7 patches and CLS


class Attention(nn.Module):
    """One attention layer over the tokens of each frame, written with the fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(C, 3 * C)
        self.out = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[0]
        q, k, v = self.qkv(x).view(frames, -1, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Sleeper(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x


class Model(nn.Module):
    def __init__(self, *reducers: nn.Module, distances: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, C, 32, stride=32, bias=False)
        self.attention = Attention()
        self.reducers = nn.ModuleList(reducers)
        self.frozen = nn.Dropout(0.5).eval()
        self.distances = distances
        self.calls: list[tuple[bool, bool]] = []

    def encode_video(self, frames: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        self.calls.append((self.training, torch.is_grad_enabled()))
        x = self.patches(frames.flatten(0, 1).float())  # (B*T, C, 7, 7)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x[:, :1], x], dim=1)  # (B*T, 50, C)
        for reducer in self.reducers:
            x = reducer(x)
        if self.distances:
            torch.cdist(x, x)
            torch.cdist(x, x, p=1.0)
        return self.attention(x)


def frames(batch: int = B) -> Tensor:
    return torch.randint(0, 256, (batch, T, 3, 224, 224), dtype=torch.uint8)


def macs_by_hand() -> int:
    convolution = T * 49 * C * (3 * 32 * 32)
    projections = T * N * C * (3 * C) + T * N * C * C
    attention = 2 * T * HEADS * N * N * (C // HEADS)
    return convolution + projections + attention


@pytest.mark.parametrize("batch", [1, 3])
def test_multiplications_are_those_counted_by_hand_attention_included(batch: int) -> None:
    cost = measure_cost(Model(), frames(batch), repetitions=1)
    assert cost["gmacs_per_video"] * 1e9 == pytest.approx(macs_by_hand(), rel=1e-12)
    assert cost["batch_size"] == batch
    assert cost["frames"] == T


def test_pairwise_distances_are_counted() -> None:
    plain = measure_cost(Model(), frames(), repetitions=1)["gmacs_per_video"]
    with_distances = measure_cost(Model(distances=True), frames(), repetitions=1)["gmacs_per_video"]
    assert (with_distances - plain) * 1e9 == pytest.approx(2 * T * N * N * C, rel=1e-6)


def test_time_in_the_reducers_is_told_from_the_rest() -> None:
    cost = measure_cost(Model(Sleeper(0.02), Sleeper(0.03)), frames(), repetitions=3)
    assert 50 <= cost["clustering_ms_per_video"] < 150  # both slept; a busy machine may add to it
    assert cost["encode_ms_per_video"] > cost["clustering_ms_per_video"]
    assert cost["repetitions"] == 3


def test_no_reducers_no_clustering_time() -> None:
    assert measure_cost(Model(), frames(), repetitions=1)["clustering_ms_per_video"] == 0.0


def test_batch_time_is_divided_by_the_batch() -> None:
    cost = measure_cost(Model(Sleeper(0.04)), frames(4), repetitions=1)
    assert 10 <= cost["clustering_ms_per_video"] < 40


def test_model_is_left_as_it_was() -> None:
    model = Model(Sleeper(0.0)).train()
    model.frozen.eval()
    measure_cost(model, frames(), repetitions=2)
    assert model.training
    assert model.attention.training
    assert not model.frozen.training
    assert not model.reducers[0]._forward_hooks
    assert not model.reducers[0]._forward_pre_hooks
    assert all(call == (False, False) for call in model.calls)  # evaluation mode, no gradients
    assert len(model.calls) == 1 + 1 + 2  # counted, warmed up, timed


def test_model_is_left_as_it_was_after_an_error() -> None:
    class Broken(Model):
        def encode_video(self, frames: Tensor, frame_mask: Tensor | None = None) -> Tensor:
            raise RuntimeError("out of order")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="out of order"):
        measure_cost(model, frames())
    assert model.training


def test_budget_ends_the_repetitions() -> None:
    cost = measure_cost(Model(Sleeper(0.05)), frames(), repetitions=50, budget_seconds=0.08)
    assert 1 <= cost["repetitions"] <= 3


def test_memory_and_circumstances_are_named() -> None:
    cost = measure_cost(Model(), frames(), repetitions=1, autocast=torch.bfloat16)
    assert cost["peak_memory_kind"] == "process resident set"
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert cost["peak_memory_mb"] == pytest.approx(peak_kb / 1024, rel=0.05)
    assert (cost["device"], cost["dtype"]) == ("cpu", "float32, autocast bfloat16")
    assert cost["threads"] == torch.get_num_threads()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda() -> None:
    model = Model(nn.Linear(C, C)).cuda()
    cost = measure_cost(model, frames(), repetitions=3)
    assert cost["peak_memory_kind"] == "cuda allocated"
    assert cost["peak_memory_mb"] > 0
    assert 0 < cost["clustering_ms_per_video"] < cost["encode_ms_per_video"]
    assert cost["gmacs_per_video"] * 1e9 == pytest.approx(macs_by_hand() + T * N * C * C, rel=1e-12)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="repetitions is 0"):
        measure_cost(Model(), frames(), repetitions=0)
    with pytest.raises(ValueError, match=r"\(4, 3, 224, 224\)"):
        measure_cost(Model(), frames()[0])
