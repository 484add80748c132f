"""A training step at ViT-B/32 with and without clustering: time, and memory beyond what is there between steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.memory import available_memory, peak_memory
from benchmarks.models import FRAMES, module, videos
from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import Summary, ratio
from centerclip_pl.tokens import KMedoids, Reducer
from centerclip_pl.training.cost import count_macs
from centerclip_pl.training.optim import make_optimizer, parameter_groups
from centerclip_pl.types import Batch

WORDS = 32
CASES: list[tuple[KMedoids, float]] = [(KMedoids(6, 4, 49), 0.70), (KMedoids(6, 3, 49), 0.66)]
MOST_TIME = 0.75
BATCHES = (8, 4, 2)
"""Videos of a step: the first for which there is memory."""
MIB_A_MODEL, MIB_A_VIDEO = 2400, 460
"""Weights, gradients and two moments of 151 million float32 parameters; activations of a video without clustering."""

Step = Callable[[Batch], Tensor]


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


def step_of(reduction: Reducer | None, plan: Plan) -> Step:
    """Forward, loss, backward and optimiser of one model; gradients stay allocated between steps."""
    model = module(32, reduction, text_layers=2 if plan.quick else 12, quick=plan.quick).to(plan.device).train()
    options = model.optimizer_options
    optimizer = make_optimizer(parameter_groups(model.named_parameters(), [], options), options)

    def step(batch: Batch) -> Tensor:
        loss = model.batch_loss(batch)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def against_none(plan: Plan) -> list[Measured]:
    """Time and peak memory as shares of those without clustering."""
    needed = {count: (1 + len(CASES)) * MIB_A_MODEL + count * MIB_A_VIDEO + 1000 for count in BATCHES}
    available = available_memory(plan.device)
    count = 2 if plan.quick else next((count for count in BATCHES if needed[count] <= available), None)
    if count is None:
        detail = f"needs {needed[BATCHES[-1]]} MiB, {available:.0f} are left"
        return [Measured("training step B/32, time", "", None, at_most=MOST_TIME, detail=detail)]
    steps = [step_of(reduction, plan) for reduction in (None, *(reducer for reducer, _ in CASES))]
    one, batch = batch_of(1, plan.device), batch_of(count, plan.device)
    # Of one video, as the ratio is the same. From here on gradients and the optimiser's state are there.
    gmacs = [count * count_macs(partial(_without_result, step, one)) / 1e9 for step in steps]
    calls = [partial(step, batch) for step in steps]
    times = plan.measure(calls, share=6, warmup=1)
    peaks = [peak_memory(call, plan.device) for call in calls]
    found = []
    for (reducer, most_memory), taken, peak, macs in zip(CASES, times[1:], peaks[1:], gmacs[1:], strict=True):
        where = f"B6-{reducer.segments},{reducer.clusters}, {count} videos"
        found += [
            Measured(
                "training step B/32, time, k-medoids / none",
                where,
                ratio(taken, times[0]),
                at_most=MOST_TIME,
                possible=macs / gmacs[0],
                times_ms={reducer.name: taken.ms, "none": times[0].ms},
                gmacs={reducer.name: macs, "none": gmacs[0]},
                detail=f"{taken.median_ms:.0f} ms / {times[0].median_ms:.0f} ms; {macs:.0f} / {gmacs[0]:.0f} GMACs",
            ),
            Measured(
                "training step B/32, peak memory, k-medoids / none",
                where,
                Summary.of([peak / peaks[0]]),
                at_most=most_memory,
                peaks_mib={reducer.name: peak, "none": peaks[0]},
                detail=f"{peak:.0f} MiB / {peaks[0]:.0f} MiB beyond weights, gradients, optimiser state",
            ),
        ]
    return found


def _without_result(step: Step, batch: Batch) -> None:
    step(batch)
