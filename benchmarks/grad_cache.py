"""A training step that embeds its batch in chunks (GradCache) against one that embeds it whole."""

from __future__ import annotations

import gc
import time
from functools import partial

import torch
from torch import Tensor

from benchmarks.memory import available_memory, peak_memory
from benchmarks.models import module
from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import Summary, ratio
from benchmarks.training_step import MIB_A_MODEL, MIB_A_VIDEO, batch_of
from centerclip_pl import TextVideoRetrieval
from centerclip_pl.tokens import KMedoids
from centerclip_pl.training.optim import make_optimizer, parameter_groups
from centerclip_pl.types import Batch

VIDEOS, CHUNK = 8, 2
LARGE, LARGE_CHUNK, LARGE_STEPS = 128, 8, 2
EXACT = 1e-6
"""Relative difference of a loss, at most."""


def _model(plan: Plan) -> TextVideoRetrieval:
    """ViT-B/32 with k-medoids in 4 segments of 49 tokens, the same weights each time."""
    model = module(32, KMedoids(6, 4, 49), text_layers=2 if plan.quick else 12, quick=plan.quick)
    return model.to(plan.device).train()


def _gradients(model: TextVideoRetrieval, batch: Batch) -> Tensor:
    model.zero_grad(set_to_none=False)
    loss = model.batch_loss(batch)
    loss.backward()
    return loss.detach()


def against_whole(plan: Plan) -> list[Measured]:
    """Time, memory and loss of a batch that fits as a whole."""
    model = _model(plan)
    count = 4 if plan.quick else VIDEOS
    where = f"B/32, B6-4,49, {count} videos, chunks of {CHUNK}"
    needed = MIB_A_MODEL + count * MIB_A_VIDEO + 1000
    if not plan.quick and available_memory(plan.device) < needed:
        return [Measured("GradCache, time, chunks / whole", where, None, detail=f"needs {needed} MiB")]
    batch = batch_of(count, plan.device)

    def step(chunk: int | None) -> Tensor:
        model.grad_cache = chunk
        return _gradients(model, batch)

    def both(chunk: int | None) -> tuple[Tensor, list[Tensor]]:
        return step(chunk), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    (whole, expected), (cached, gradients) = both(None), both(CHUNK)
    off = abs(float(cached / whole) - 1)
    apart = sum((a - b).square().sum() for a, b in zip(gradients, expected, strict=True)).sqrt()  # type: ignore[union-attr]
    size = sum(b.square().sum() for b in expected).sqrt()  # type: ignore[union-attr]
    del expected, gradients
    calls = [partial(step, CHUNK), partial(step, None)]
    times = plan.measure(calls, share=6, warmup=1)
    peaks = [peak_memory(call, plan.device) for call in calls]
    return [
        Measured(
            "GradCache, time, chunks / whole",
            where,
            ratio(*times),
            at_most=1.5,
            possible=4 / 3,  # one more forward pass, of which a backward pass is worth two
            times_ms={"chunks": times[0].ms, "whole": times[1].ms},
            detail=f"loss differs by {off:.1e}, gradients by {float(apart / size):.1e}, relative",
            wrong=off > EXACT,
        ),
        Measured(
            "GradCache, peak memory, chunks / whole",
            where,
            Summary.of([peaks[0] / peaks[1]]),
            at_most=0.5,
            peaks_mib={"chunks": peaks[0], "whole": peaks[1]},
            detail=f"{peaks[0]:.0f} MiB / {peaks[1]:.0f} MiB beyond weights and gradients",
        ),
    ]


def large_batch(plan: Plan) -> list[Measured]:
    """Steps of a batch of 128 videos of 12 frames; their losses against those of the whole batch, without gradient.

    Minutes on a CPU. The memory of the whole batch is not measured but counted: what a video takes, 128 times.
    """
    count, chunk = (8, 2) if plan.quick else (LARGE, LARGE_CHUNK)
    where = f"B/32, B6-4,49, {count} videos of 12 frames, chunks of {chunk}"
    model, batch = _model(plan), batch_of(count, plan.device)
    model.grad_cache = chunk
    options = model.optimizer_options
    optimizer = make_optimizer(parameter_groups(model.named_parameters(), [], options), options)
    pairs, seconds, peaks = [], [], []

    def step() -> None:
        pairs[-1].append(float(_gradients(model, batch)))

    for _ in range(LARGE_STEPS):
        pairs.append([_whole_loss(model, batch, chunk)])
        began = time.perf_counter()
        peaks.append(peak_memory(step, plan.device))
        seconds.append(time.perf_counter() - began)
        optimizer.step()
        gc.collect()
    off = max(abs(cached / whole - 1) for whole, cached in pairs)
    losses = ", ".join(f"{cached:.6f}" for _, cached in pairs)
    return [
        Measured(
            f"GradCache, loss of a batch of {count}, chunks / whole",
            where,
            Summary.of([cached / whole for whole, cached in pairs]),
            peaks_mib={"chunks": max(peaks)},
            detail=(
                f"losses {losses}, off by {off:.1e} at most; {max(peaks):.0f} MiB beyond weights, gradients and state; "
                f"{min(seconds):.0f} s a step"
            ),
            wrong=off > EXACT,
        )
    ]


@torch.no_grad()
def _whole_loss(model: TextVideoRetrieval, batch: Batch, chunk: int) -> float:
    """The loss of all videos embedded in one call, without the activations of a backward pass."""
    return float(model.batch_loss(batch))
