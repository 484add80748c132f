"""k-medoids against the distances alone, and against the direct formulation."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.direct import direct_kmedoids
from benchmarks.models import module, videos
from benchmarks.report import Measured
from benchmarks.timing import Ratio, measure
from centerclip_pl.clustering import kmedoids
from centerclip_pl.tokens.segments import split_segments

SIZES = ((16, 147, 49), (12, 196, 49), (4, 588, 160))


def random_tokens(batch: int, count: int, device: str) -> Tensor:
    """float32 ``[batch, count, 768]``."""
    return torch.randn(batch, count, 768, generator=torch.Generator().manual_seed(0)).to(device)


@torch.no_grad()
def video_tokens(batch: int, count: int, device: str) -> Tensor:
    """As `random_tokens`, of a random transformer after 6 blocks: patches of the segments of smooth videos."""
    patch, each = (16, 3) if count == 588 else (32, count // 49)
    segments = 12 // each
    model = module(patch, text_layers=1).to(device).eval()
    seen: list[Tensor] = []
    hook = model.video.vision.encoder.layers[6].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.encode_video(videos(-(-batch // segments), device))
    hook.remove()
    return split_segments(seen[0], each)[1][:batch].contiguous()


def against_distances(device: str, repetitions: int) -> list[Measured]:
    """How many times as long as ``torch.cdist`` of the same tokens."""
    found = []
    for batch, count, clusters in SIZES:
        for kind, make in (("random tokens", random_tokens), ("tokens of videos", video_tokens)):
            tokens = make(batch, count, device)
            with torch.no_grad():
                distances, all_of_it = measure(
                    [lambda t=tokens: torch.cdist(t, t), lambda t=tokens, k=clusters: kmedoids(t, k)],
                    repetitions,
                    device=device,
                    warmup=5,
                )
            found.append(
                Measured(
                    "k-medoids / torch.cdist",
                    f"{batch} x {count} -> {clusters}, {kind}",
                    Ratio.of(all_of_it, distances),
                    at_most=2.0,
                    detail=f"{all_of_it.median_ms:.1f} ms / {distances.median_ms:.1f} ms",
                )
            )
    return found


def against_direct(device: str, repetitions: int) -> list[Measured]:
    """How many times as fast as tensors ``[B, K, N, N]``; the medoids are the same, or it raises."""
    found = []
    for (batch, count, clusters), bound in ((SIZES[0], 8.0), (SIZES[2], 100.0)):
        tokens = random_tokens(batch, count, device)
        if not torch.equal(direct_kmedoids(tokens, clusters), kmedoids(tokens, clusters).medoids):
            raise AssertionError(f"other medoids than the direct formulation at {batch} x {count} -> {clusters}")
        ours, direct = measure(
            [lambda t=tokens, k=clusters: kmedoids(t, k), lambda t=tokens, k=clusters: direct_kmedoids(t, k)],
            max(2, repetitions // 10),
            device=device,
            warmup=1,
        )
        found.append(
            Measured(
                "direct formulation / k-medoids",
                f"{batch} x {count} -> {clusters}",
                Ratio.of(direct, ours),
                at_least=bound,
                detail=f"{direct.median_ms:.0f} ms / {ours.median_ms:.1f} ms, same medoids",
            )
        )
    return found
