"""What would make a training step smaller, by how much, and at what price."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from centerclip_pl.tokens import KMedoids, SegmentReducer
from centerclip_pl.training.memory.step import Prediction, Training, predict

_CHUNKS = (32, 8, 4, 2, 1)


@dataclass(frozen=True)
class Switch:
    """Options that make a step smaller."""

    options: str
    """For the command line."""
    price: str
    """What they cost besides."""
    training: Training
    """With them."""


@dataclass(frozen=True)
class Saving:
    """A switch and what it saves."""

    switch: Switch
    prediction: Prediction
    saved: int
    """Bytes of the peak; negative where it takes more."""


def savings(training: Training, before: Prediction, tokens: dict[str, int | None] | None = None) -> list[Saving]:
    """All switches that are not set yet, by what they save, the most first.

    Args:
        training: as it is.
        before: what is predicted for it.
        tokens: ``after_block``, ``segments`` and ``clusters`` for clustering, where they are known.
    """
    found = []
    for switch in switches(training, tokens or {}):
        prediction = predict(switch.training)
        found.append(Saving(switch, prediction, before.peak - prediction.peak))
    return sorted(found, key=lambda saving: -saving.saved)


def switches(training: Training, tokens: dict[str, int | None]) -> Iterator[Switch]:
    """What can be switched on; see `savings`."""
    again = "one more forward pass"
    recompute, halve = {"gradient_checkpointing": True}, "bf16-mixed"
    recomputes, full = training.model.get("gradient_checkpointing"), training.precision == "32-true"
    rounded = "products of 8 bits' precision, and a GPU that has them (Ampere or later)"
    if not recomputes:
        yield Switch("--model.gradient_checkpointing=true", again, _with(training, recompute))
    if full:
        yield Switch("--trainer.precision=bf16-mixed", rounded, replace(training, precision=halve))
    if not recomputes and full:
        both = replace(_with(training, recompute), precision=halve)
        yield Switch(
            "--model.gradient_checkpointing=true --trainer.precision=bf16-mixed", f"both of these: {again}", both
        )
    if training.model.get("grad_cache") is None:
        for chunk in [size for size in _CHUNKS if size < training.batch_size][:2]:
            cached = _with(training, {"grad_cache": chunk})
            yield Switch(f"--model.grad_cache={chunk}", f"{again}; the loss stays that of the whole batch", cached)
    reduction = training.model.get("reduction") or []
    if not any(issubclass(kind, SegmentReducer) for kind, _ in reduction):
        yield _clustering(training, tokens)
    if training.model.get("freeze_layers") is None:
        towers: list[Any] = [training.clip.vision_config, training.clip.text_config]
        half = min(tower.num_hidden_layers for tower in towers) // 2
        frozen = _with(training, {"freeze_layers": half})
        yield Switch(f"--model.freeze_layers={half}", "the first blocks stay as they were pretrained", frozen)


def _with(training: Training, options: dict[str, Any]) -> Training:
    return replace(training, model=training.model | options)


def _clustering(training: Training, tokens: dict[str, int | None]) -> Switch:
    """CenterCLIP's clustering in the middle of the transformer: to a third of the frames, unless told otherwise."""
    vision: Any = training.clip.vision_config
    each = next(frames for frames in (3, 4, 2, 5, training.frames) if training.frames % frames == 0)
    chosen = {
        "after_block": vision.num_hidden_layers // 2,
        "segments": training.frames // each,
        "clusters": min((vision.image_size // vision.patch_size) ** 2, 160),
    }
    chosen |= {name: value for name, value in tokens.items() if value is not None}
    reduction = [*(training.model.get("reduction") or []), (KMedoids, chosen)]
    words = " ".join(f"--tokens.{name}={value}" for name, value in chosen.items())
    price = "another model, of fewer tokens; it is faster as well"
    return Switch(f"--method=kmedoids {words}", price, _with(training, {"reduction": reduction}))
