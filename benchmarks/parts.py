"""What each reducer and each head costs; nothing to reach."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import CLIPTextModel

from benchmarks.memory import peak_memory
from benchmarks.models import clip_config, module, videos
from benchmarks.report import Part
from benchmarks.timing import measure
from centerclip_pl.retrieval.heads import HEADS, make_head
from centerclip_pl.tokens import (
    KMedoids,
    Reducer,
    SegmentPooling,
    SparseSampling,
    Spectral,
    TemporalShift,
    TokenShift,
)
from centerclip_pl.training.cost import count_macs, measure_cost
from centerclip_pl.types import VideoEmbedding

REDUCERS: dict[str, Callable[[], Reducer | None]] = {
    "none": lambda: None,
    "KMedoids B6-4,49": lambda: KMedoids(6, 4, 49),
    "KMedoids B6-4,49, mean of clusters": lambda: KMedoids(6, 4, 49, aggregation="mean"),
    "Spectral B6-4,49, heat": lambda: Spectral(6, 4, 49),
    "Spectral B6-4,49, knn": lambda: Spectral(6, 4, 49, graph="knn"),
    "SparseSampling B6-4,49": lambda: SparseSampling(6, 4, 49),
    "SegmentPooling B6-4": lambda: SegmentPooling(6, 4),
    "TemporalShift": TemporalShift,
    "TokenShift": TokenShift,
}
SEGMENTS, CHANNELS = 12, 512


def reducers(device: str, repetitions: int) -> list[Part]:
    """In the encoder of ViT-B/32, one video of 12 frames."""
    frames, found = videos(1, device), []
    for what, make in REDUCERS.items():
        model = module(32, make(), text_layers=1).to(device).eval()
        cost = measure_cost(model, frames, repetitions=max(3, repetitions // 4))
        with torch.inference_mode():
            peak = peak_memory(lambda m=model: m.encode_video(frames), device)
        share = cost["clustering_ms_per_video"] / cost["encode_ms_per_video"]
        found.append(Part("reducer", what, cost["encode_ms_per_video"], None, cost["gmacs_per_video"], peak, share))
    return found


def heads(device: str, repetitions: int) -> list[Part]:
    """64 texts and 64 videos of 12 segments; 16 of each where every pair passes through a network."""
    scale = torch.tensor(4.6, device=device)
    text_model = CLIPTextModel(clip_config(32).text_config).to(device)
    found = []
    for name, kind in HEADS.items():
        head = make_head(name, text_model, CHANNELS).to(device).train()
        count = 16 if kind.pairwise else 64
        text, video = _embeddings(count, device)

        def forward(head: torch.nn.Module = head, text: Tensor = text, video: VideoEmbedding = video) -> Tensor:
            return head(text, video, scale)

        def both(forward: Callable[[], Tensor] = forward) -> None:
            forward().square().mean().backward()

        def silent(forward: Callable[[], Tensor] = forward) -> None:
            with torch.no_grad():
                forward()

        alone, with_backward = measure([silent, both], max(3, repetitions // 2), device=device)
        macs = count_macs(silent) / 1e9
        what = f"{name}, {count} x {count}"
        found.append(
            Part("head", what, alone.median_ms, with_backward.median_ms, macs, peak_memory(both, device), None)
        )
    return found


def _embeddings(count: int, device: str) -> tuple[Tensor, VideoEmbedding]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(count, CHANNELS, generator=generator).to(device).requires_grad_()
    segments = torch.randn(count, SEGMENTS, CHANNELS, generator=generator).to(device).requires_grad_()
    return text, VideoEmbedding(segments, torch.ones(count, SEGMENTS, dtype=torch.bool, device=device))
