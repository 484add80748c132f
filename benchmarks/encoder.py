"""The vision encoder with and without reduction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import module, videos
from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import ratio
from centerclip_pl import TextVideoRetrieval
from centerclip_pl.tokens import KMedoids, Spectral
from centerclip_pl.tokens.selection import TokenSelection
from centerclip_pl.training.cost import count_macs

CASES: dict[int, list[tuple[TokenSelection, float]]] = {
    32: [(KMedoids(6, 4, 49), 1.40), (KMedoids(6, 3, 49), 1.50), (Spectral(6, 4, 49), 1.30)],
    16: [(KMedoids(6, 4, 160), 1.45), (Spectral(6, 4, 160), 1.30)],
}
SHARES = {32: {1: 2, 4: 10}, 16: {1: 4}}
"""Of the repetitions: for patches of so many pixels, and so many videos at once."""


@torch.inference_mode()
def against_none(plan: Plan) -> list[Measured]:
    """How many times as fast as without reduction, and what the multiplications allow; bounds are for one video."""
    found = []
    for patch, cases in CASES.items():
        plain = module(patch, None, 1, plan.quick).to(plan.device).eval()
        reduced = [module(patch, reducer, 1, plan.quick).to(plan.device).eval() for reducer, _ in cases]
        for count in SHARES[patch]:
            rows = [(model, bound if count == 1 else None) for model, (_, bound) in zip(reduced, cases, strict=True)]
            found += _speed_ups(patch, plain, rows, videos(count, plan.device), plan)
    return found


def _speed_ups(
    patch: int,
    plain: TextVideoRetrieval,
    reduced: list[tuple[TextVideoRetrieval, float | None]],
    frames: Tensor,
    plan: Plan,
) -> list[Measured]:
    models = [plain, *(model for model, _ in reduced)]
    calls = [partial(model.encode_video, frames) for model in models]
    whole = [count_macs(call) / 1e9 for call in calls]
    times = plan.measure(calls, SHARES[patch][len(frames)], least=3 if len(frames) == 1 else 2, warmup=1)
    found = []
    for (model, bound), taken, gmacs in zip(reduced, times[1:], whole[1:], strict=True):
        reducer = model.video.reducers[0]
        assert isinstance(reducer, TokenSelection)
        clustering = reducer_gmacs(model, frames)
        speed_up, possible = ratio(times[0], taken), whole[0] / gmacs
        found.append(
            Measured(
                f"encoder B/{patch}, none / {reducer.name}",
                f"B6-{reducer.segments},{reducer.clusters}, {len(frames)} video{'s' if len(frames) > 1 else ''}",
                speed_up,
                at_least=bound,
                possible=possible,
                times_ms={"none": times[0].ms, reducer.name: taken.ms},
                gmacs={"none": whole[0], reducer.name: gmacs, "of them clustering": clustering},
                detail=f"{times[0].median_ms:.0f} ms / {taken.median_ms:.0f} ms; {whole[0]:.1f} / {gmacs:.1f} GMACs, "
                f"{clustering:.2f} of them clustering",
            )
        )
    return found


def reducer_gmacs(model: TextVideoRetrieval, frames: Tensor) -> float:
    """10^9 multiply-accumulates in the model's reducers alone; eigensolvers and sorting are not counted."""
    calls: list[Callable[[], Any]] = []
    hooks = [
        reducer.register_forward_pre_hook(lambda reducer, given: calls.append(partial(reducer.forward, *given)))
        for reducer in model.video.reducers
    ]
    model.encode_video(frames)
    for hook in hooks:
        hook.remove()
    return sum(count_macs(call) for call in calls) / 1e9
