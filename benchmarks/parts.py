"""What each reducer and each head costs; nothing to reach."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers import CLIPTextModel

from benchmarks.memory import peak_memory
from benchmarks.models import clip_config, module, videos
from benchmarks.plan import Plan
from benchmarks.report import Part
from centerclip_pl.retrieval.heads import HEADS, Head, make_head
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
SEGMENTS = 12


def reducers(plan: Plan) -> list[Part]:
    """In the encoder of ViT-B/32, one video of 12 frames."""
    frames, found = videos(1, plan.device), []
    for what, make in REDUCERS.items():
        model = module(32, make(), text_layers=1, quick=plan.quick).to(plan.device).eval()
        cost = measure_cost(model, frames, repetitions=2 if plan.quick else max(3, plan.repetitions // 4))
        with torch.inference_mode():
            peak = peak_memory(partial(model.encode_video, frames), plan.device)
        milliseconds = cost["encode_ms_per_video"]
        share = cost["clustering_ms_per_video"] / milliseconds
        found.append(Part("reducer", what, milliseconds, None, cost["gmacs_per_video"], peak, share))
    return found


def heads(plan: Plan) -> list[Part]:
    """64 texts and 64 videos of 12 segments; 16 of each where every pair passes through a network."""
    text_model = CLIPTextModel(clip_config(32, quick=plan.quick).text_config)
    channels = text_model.config.hidden_size
    found = []
    for name, kind in HEADS.items():
        head = make_head(name, text_model, channels).to(plan.device).train()
        count = 4 if plan.quick else 16 if kind.pairwise else 64
        inputs = _embeddings(count, channels, plan.device)
        forward, both = partial(_forward, head, *inputs), partial(_forward_and_backward, head, *inputs)
        alone, together = plan.measure([forward, both], share=2)
        peak = peak_memory(both, plan.device)
        found.append(
            Part("head", f"{name}, {count} x {count}", alone.median_ms, together.median_ms, _gmacs(forward), peak, None)
        )
    return found


def _forward(head: Head, text: Tensor, video: VideoEmbedding, scale: Tensor) -> None:
    with torch.no_grad():
        head(text, video, scale)


def _forward_and_backward(head: Head, text: Tensor, video: VideoEmbedding, scale: Tensor) -> None:
    head(text, video, scale).square().mean().backward()


def _gmacs(call: Callable[[], None]) -> float:
    """The kernels that compute a whole LSTM at once are not counted; without them it is made of plain products."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # said whenever the first of these flags is touched
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            return count_macs(call) / 1e9


def _embeddings(count: int, channels: int, device: str) -> tuple[Tensor, VideoEmbedding, Tensor]:
    """Texts, videos, and the logit scale."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(count, channels, generator=generator).to(device).requires_grad_()
    segments = torch.randn(count, SEGMENTS, channels, generator=generator).to(device).requires_grad_()
    mask = torch.ones(count, SEGMENTS, dtype=torch.bool, device=device)
    return text, VideoEmbedding(segments, mask), torch.tensor(4.6, device=device)
