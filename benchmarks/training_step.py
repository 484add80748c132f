"""A training step at ViT-B/32 with and without clustering: time, and memory beyond what is there between steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.memory import peak_memory
from benchmarks.models import FRAMES, module, videos
from benchmarks.report import Measured
from benchmarks.timing import Ratio, measure
from centerclip_pl.tokens import KMedoids, Reducer
from centerclip_pl.training.optim import make_optimizer, parameter_groups
from centerclip_pl.types import Batch

WORDS = 32
CASES: list[tuple[KMedoids, float]] = [(KMedoids(6, 4, 49), 0.70), (KMedoids(6, 3, 49), 0.66)]


def batch_of(count: int, device: str) -> Batch:
    """As a training loader gives it."""
    ids = torch.arange(count, device=device)
    words = torch.randint(1, 40_000, (count, WORDS), generator=torch.Generator().manual_seed(0)).to(device)
    return Batch(
        frames=videos(count, device),
        frame_mask=torch.ones(count, FRAMES, dtype=torch.bool, device=device),
        video_ids=ids,
        input_ids=words,
        attention_mask=torch.ones_like(words),
        text_ids=ids,
        video_of_text=ids,
    )


def step_of(reduction: Reducer | None, batch: Batch, device: str) -> Callable[[], None]:
    """Forward, loss, backward and optimiser of one model; gradients stay allocated between steps."""
    model = module(32, reduction).to(device).train()
    options = model.optimizer_options
    optimizer = make_optimizer(parameter_groups(model.named_parameters(), [], options), options)

    def step() -> None:
        loss = model.batch_loss(batch)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()

    return step


def against_none(device: str, repetitions: int, videos_a_step: int = 8) -> list[Measured]:
    """Time and peak memory as shares of those without clustering."""
    batch = batch_of(videos_a_step, device)
    steps = [step_of(reduction, batch, device) for reduction in (None, *(reducer for reducer, _ in CASES))]
    for step in steps:  # so that weights, gradients and the optimiser's state are there
        step()
    plain_peak, *peaks = [peak_memory(step, device) for step in steps]
    plain, *taken = measure(steps, max(3, repetitions // 6), device=device, warmup=0)
    found = []
    for (reducer, memory_bound), seconds, peak in zip(CASES, taken, peaks, strict=True):
        where = f"B6-{reducer.segments},{reducer.clusters}, {videos_a_step} videos"
        share = peak / plain_peak
        found += [
            Measured(
                "training step B/32, time",
                where,
                Ratio.of(seconds, plain),
                at_most=0.75,
                detail=f"{seconds.median_ms:.0f} ms / {plain.median_ms:.0f} ms",
            ),
            Measured(
                "training step B/32, peak memory",
                where,
                Ratio(share, share, share, 1),
                at_most=memory_bound,
                detail=f"{peak:.0f} MiB / {plain_peak:.0f} MiB beyond weights, gradients, optimiser state",
            ),
        ]
    return found
