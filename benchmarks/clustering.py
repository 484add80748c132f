"""k-medoids against the distances alone, and against the direct formulation."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.direct import bytes_needed, direct_kmedoids
from benchmarks.memory import MEBIBYTE, available_memory
from benchmarks.models import FRAMES, module, videos
from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import ratio
from centerclip_pl.clustering import kmedoids
from centerclip_pl.tokens.segments import split_segments

Size = tuple[int, int, int]
"""Samples, tokens of a sample, clusters."""

SIZES: tuple[Size, ...] = ((16, 147, 49), (12, 196, 49), (4, 588, 160))
QUICK_SIZES: tuple[Size, ...] = ((1, 147, 20), (1, 196, 20), (1, 588, 20))
DIRECT: tuple[tuple[Size, float], ...] = ((SIZES[0], 8.0), (SIZES[2], 100.0))
QUICK_DIRECT: tuple[tuple[Size, float], ...] = (((2, 60, 10), 0.0), ((1, 80, 10), 0.0))
MASKS = {"factors": False, "boolean": True}


def random_tokens(size: Size, plan: Plan) -> Tensor:
    """float32 ``[samples, tokens, 768]``, normally distributed."""
    return torch.randn(*size[:2], 768, generator=torch.Generator().manual_seed(0)).to(plan.device)


@torch.no_grad()
def video_tokens(size: Size, plan: Plan) -> Tensor:
    """As `random_tokens`, of a random transformer after 6 blocks: patches of the segments of smooth videos."""
    samples, count, _ = size
    patch, each = (16, 3) if count == 588 else (32, count // 49)
    segments = FRAMES // each
    model = module(patch, text_layers=1, quick=plan.quick).to(plan.device).eval()
    seen: list[Tensor] = []
    model.video.vision.encoder.layers[6].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.encode_video(videos(-(-samples // segments), plan.device))
    return split_segments(seen[0], each)[1][:samples].contiguous()


def against_distances(plan: Plan) -> list[Measured]:
    """How many times as long as ``torch.cdist`` of the same tokens."""
    found = []
    for size in QUICK_SIZES if plan.quick else SIZES:
        for kind, make in (("random tokens", random_tokens), ("tokens of videos", video_tokens)):
            tokens = make(size, plan)
            with torch.no_grad():
                distances, whole = plan.measure(
                    [partial(torch.cdist, tokens, tokens), partial(kmedoids, tokens, size[2])], warmup=5
                )
            found.append(
                Measured(
                    "k-medoids / torch.cdist",
                    f"{_text(size)}, {kind}",
                    ratio(whole, distances),
                    at_most=2.0,
                    times_ms={"k-medoids": whole.ms, "torch.cdist": distances.ms},
                    detail=f"{whole.median_ms:.1f} ms / {distances.median_ms:.1f} ms",
                )
            )
    return found


def against_direct(plan: Plan) -> list[Measured]:
    """How many times as fast as by tensors ``[B, K, N, N]``; the medoids must be the same."""
    found = []
    for size, bound in QUICK_DIRECT if plan.quick else DIRECT:
        for mask in MASKS:
            found.append(_against_direct(size, mask, bound, plan))
    return found


def _against_direct(size: Size, mask: str, bound: float, plan: Plan) -> Measured:
    group, what = "direct formulation / k-medoids", f"{_text(size)}, masks as {mask}"
    needed, available = bytes_needed(*size) / MEBIBYTE, available_memory(plan.device)
    if needed > available:
        return Measured(group, what, None, at_least=bound, detail=f"needs {needed:.0f} MiB, {available:.0f} are left")
    tokens = random_tokens(size, plan)
    ours, direct = partial(kmedoids, tokens, size[2]), partial(direct_kmedoids, tokens, size[2], boolean=MASKS[mask])
    others = int((ours().medoids != direct()).sum())
    if others:
        detail = f"{others} of {size[0] * size[2]} medoids are other ones"
        return Measured(group, what, None, at_least=bound, detail=detail, wrong=True)
    taken, directly = plan.measure([ours, direct], share=10, warmup=1)
    return Measured(
        group,
        what,
        ratio(directly, taken),
        at_least=bound,
        times_ms={"direct": directly.ms, "k-medoids": taken.ms},
        detail=f"{directly.median_ms:.0f} ms / {taken.median_ms:.1f} ms, same medoids",
    )


def _text(size: Size) -> str:
    return f"{size[0]} x {size[1]} -> {size[2]}"
