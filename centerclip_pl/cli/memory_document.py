"""The tables of docs/memory.md: the published settings, what they take, and what fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from centerclip_pl.cli.memory_table import gigabytes
from centerclip_pl.tokens import KMedoids, Reducer, Spectral
from centerclip_pl.training.memory import GPUS, Training, clip_config, largest_batches, predict

_BACKBONES = {"ViT-B/32": "openai/clip-vit-base-patch32", "ViT-B/16": "openai/clip-vit-base-patch16"}
_SHORT_CLIPS, _PARAGRAPHS = "MSR-VTT, MSVD, LSMDC", "ActivityNet, DiDeMo"
_FRAMES_AND_WORDS = {_SHORT_CLIPS: (12, 32), _PARAGRAPHS: (60, 77)}


@dataclass(frozen=True)
class Row:
    """A published setting."""

    datasets: str
    backbone: str
    method: str
    reducer: tuple[type[Reducer], int, int] | None
    """Class, segments and clusters; after block 6."""
    batch_size: int
    """Videos of a GPU."""
    processes: int
    published: str
    """GB, as printed."""

    def training(self) -> Training:
        """In mixed precision of 16 bits, as the published code trains."""
        frames, words = _FRAMES_AND_WORDS[self.datasets]
        model: dict[str, Any] = {}
        if self.reducer is not None:
            kind, segments, clusters = self.reducer
            model["reduction"] = [(kind, {"after_block": 6, "segments": segments, "clusters": clusters})]
        clip = clip_config(_BACKBONES[self.backbone])
        return Training(clip, model, self.batch_size, frames, words, "16-mixed", processes=self.processes)


ROWS = (
    Row(_SHORT_CLIPS, "ViT-B/32", "baseline", None, 64, 2, "20.8"),
    Row(_SHORT_CLIPS, "ViT-B/32", "k-medoids, B6-4,49", (KMedoids, 4, 49), 64, 2, "15.0"),
    Row(_SHORT_CLIPS, "ViT-B/32", "k-medoids, B6-3,49", (KMedoids, 3, 49), 64, 2, "14.2"),
    Row(_SHORT_CLIPS, "ViT-B/32", "spectral, B6-4,49", (Spectral, 4, 49), 64, 2, "14.9"),
    Row(_SHORT_CLIPS, "ViT-B/16", "baseline", None, 16, 8, "25.7"),
    Row(_SHORT_CLIPS, "ViT-B/16", "k-medoids, B6-4,160", (KMedoids, 4, 160), 16, 8, "17.6"),
    Row(_PARAGRAPHS, "ViT-B/32", "baseline", None, 16, 8, "25.0"),
    Row(_PARAGRAPHS, "ViT-B/32", "k-medoids, B6-15,49", (KMedoids, 15, 49), 16, 8, "16.8"),
    Row(_PARAGRAPHS, "ViT-B/32", "k-medoids, B6-12,49", (KMedoids, 12, 49), 16, 8, "16.2"),
    Row(_PARAGRAPHS, "ViT-B/32", "spectral, B6-20,49", (Spectral, 20, 49), 16, 8, "17.7"),
    Row(_PARAGRAPHS, "ViT-B/16", "baseline", None, 4, 32, "out of memory"),
    Row(_PARAGRAPHS, "ViT-B/16", "k-medoids, B6-15,160", (KMedoids, 15, 160), 4, 32, "23.0"),
)
"""CenterCLIP's tables 1 to 4."""


def published_tables() -> str:
    """Both tables as Markdown."""
    head = ["datasets", "backbone", "method", "a GPU", "published GB", *VARIANTS]
    peaks = [[*_about(row), row.published, *(gigabytes(peak_of(row, name)) for name in VARIANTS)] for row in ROWS]
    sizes = ["datasets", "backbone", "method", *(f"{gpu} GB" for gpu in GPUS), f"{GPUS[0]} GB, recomputing"]
    fits = [[*_about(row)[:3], *_fits(row)] for row in ROWS if row.method == "baseline" or "k-medoids" in row.method]
    return f"{_markdown(head, peaks)}\n\n{_markdown(sizes, fits)}"


VARIANTS: dict[str, dict[str, Any]] = {
    "16-mixed": {},
    "32-true": {"precision": "32-true"},
    "16-mixed, recomputing": {"model": {"gradient_checkpointing": True}},
    "16-mixed, grad_cache=2": {"model": {"grad_cache": 2}},
}
"""Columns: what is different from the published setting."""


def peak_of(row: Row, variant: str) -> int:
    """Bytes that are predicted for a row under one of `VARIANTS`."""
    return predict(_varied(row.training(), VARIANTS[variant])).peak


def _varied(training: Training, options: dict[str, Any]) -> Training:
    return replace(training, **(options | {"model": training.model | options.get("model", {})}))


def _about(row: Row) -> list[str]:
    return [row.datasets, row.backbone, row.method, f"{row.batch_size} of {row.batch_size * row.processes}"]


def _fits(row: Row) -> list[str]:
    training = replace(row.training(), processes=1)
    found = largest_batches(training)
    found += largest_batches(_varied(training, VARIANTS["16-mixed, recomputing"]), GPUS[:1])
    return [str(fit.batch_size or "none") for fit in found]


def _markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
