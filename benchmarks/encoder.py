"""The vision encoder with and without reduction: one video of 12 frames."""

from __future__ import annotations

import torch

from benchmarks.models import module, videos
from benchmarks.report import Measured
from benchmarks.timing import Ratio, measure
from centerclip_pl.tokens import KMedoids, Reducer, Spectral
from centerclip_pl.training.cost import count_macs

CASES: dict[int, list[tuple[Reducer, float]]] = {
    32: [(KMedoids(6, 4, 49), 1.40), (KMedoids(6, 3, 49), 1.50), (Spectral(6, 4, 49), 1.30)],
    16: [(KMedoids(6, 4, 160), 1.45), (Spectral(6, 4, 160), 1.30)],
}


@torch.inference_mode()
def against_none(device: str, repetitions: int) -> list[Measured]:
    """How many times as fast as without reduction, and what the multiplications allow."""
    found = []
    frames = videos(1, device)
    for patch, cases in CASES.items():
        reducers = [None, *(reducer for reducer, _ in cases)]
        models = [module(patch, reducer, text_layers=1).to(device).eval() for reducer in reducers]
        calls = [lambda m=model: m.encode_video(frames) for model in models]
        macs = [count_macs(call) / 1e9 for call in calls]
        plain, *reduced = measure(calls, max(3, repetitions // (2 if patch == 32 else 4)), device=device)
        for (reducer, bound), taken, counted in zip(cases, reduced, macs[1:], strict=True):
            ratio = Ratio.of(plain, taken)
            possible = macs[0] / counted
            found.append(
                Measured(
                    f"encoder B/{patch}, none / {reducer.name}",
                    f"B6-{reducer.segments},{reducer.clusters}",  # type: ignore[attr-defined]
                    ratio,
                    at_least=bound,
                    possible=possible,
                    detail=f"{plain.median_ms:.0f} ms / {taken.median_ms:.0f} ms; {macs[0]:.1f} / {counted:.1f} GMACs; "
                    f"{ratio.median / possible:.0%} of what they allow",
                )
            )
    return found
