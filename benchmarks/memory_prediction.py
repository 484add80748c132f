"""The predicted peak memory of a training step, divided by the measured one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.memory import MEBIBYTE, available_memory, peak_memory
from benchmarks.models import FRAMES, clip_config
from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import Summary
from benchmarks.training_step import MIB_A_MODEL, MIB_A_VIDEO, WORDS
from centerclip_pl.tokens import KMedoids, Spectral
from centerclip_pl.training.memory import Prediction, Training, fake_batch, predict
from centerclip_pl.training.memory.step import PRECISIONS
from centerclip_pl.types import Batch

VIDEOS = 4
B6 = {"after_block": 6, "segments": 4, "clusters": 49}
CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "k-medoids B6-4,49": {"model": {"reduction": [(KMedoids, B6)]}},
    "spectral B6-4,49": {"model": {"reduction": [(Spectral, B6)]}},
    "recomputing": {"model": {"gradient_checkpointing": True}},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "grad_cache=1": {"model": {"grad_cache": 1}},
    "tightTransf": {"model": {"head": "tightTransf"}},
}
MOST_OFF = 0.15


def against_measured(plan: Plan) -> list[Measured]:
    """Ratios of predicted to measured peaks, beyond weights, optimiser state and the batch."""
    needed, available = MIB_A_MODEL + VIDEOS * MIB_A_VIDEO + 1000, available_memory(plan.device)
    if not plan.quick and needed > available:
        detail = f"needs {needed} MiB, {available:.0f} are left"
        return [Measured("training step B/32, predicted / measured peak memory", "", None, detail=detail)]
    return [_compared(name, options, plan) for name, options in CASES.items()]


def _compared(name: str, options: dict[str, Any], plan: Plan) -> Measured:
    clip = clip_config(32, text_layers=2 if plan.quick else 12, quick=plan.quick)
    on_cpu = not plan.device.startswith("cuda")
    given = Training(clip, **({"batch_size": VIDEOS, "frames": FRAMES, "words": WORDS, "on_cpu": on_cpu} | options))
    predicted = _of_the_step(predict(given)) / MEBIBYTE
    measured = peak_memory(_steps(given, plan.device), plan.device)
    ratio = predicted / measured
    return Measured(
        "training step B/32, predicted / measured peak memory",
        f"{name}, {VIDEOS} videos",
        Summary.of([ratio]),
        at_most=1 + MOST_OFF,
        at_least=1 - MOST_OFF,
        peaks_mib={"predicted": predicted, "measured": measured},
        detail=f"{predicted:.0f} MiB / {measured:.0f} MiB beyond weights, optimiser state and batch",
    )


def _of_the_step(prediction: Prediction) -> int:
    """Bytes beyond what is there when the measurement begins."""
    before = sum(prediction.parts[part] for part in ("weights", "optimizer state", "inputs"))
    return prediction.peak - before


def _steps(given: Training, device: str) -> Callable[[], None]:
    """Two steps in a row, as the second one's forward pass has the first one's gradients beside it."""
    autocast = PRECISIONS[given.precision][1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = given.module().to(device)
        batch: Any = {name: value.to(device) for name, value in fake_batch(given).items()}  # type: ignore[attr-defined]
        batch["frames"].random_(0, 256)
        batch["input_ids"].random_(1, 40_000)
    optimizer: Any = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]

    def step(batch: Batch) -> None:
        kind = torch.device(device).type
        with torch.autocast(kind, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            loss = module.batch_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    def two() -> None:
        step(batch)
        step(batch)

    step(batch)  # leaves the optimiser's state
    optimizer.zero_grad()
    return two
