"""What one training step holds at its peak, found without a step: the real module on tensors that have shapes alone."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from transformers import CLIPConfig

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.memory.ledger import ACTIVATIONS, TEMPORARIES, Ledger
from centerclip_pl.training.memory.stand_ins import CLUSTERING, COMMUNICATION, stand_ins
from centerclip_pl.training.module import TextVideoRetrieval
from centerclip_pl.types import Batch

WEIGHTS, GRADIENTS, OPTIMIZER, INPUTS = "weights", "gradients", "optimizer state", "inputs"
PARTS = (WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, TEMPORARIES, CLUSTERING, INPUTS, COMMUNICATION)
"""Of a peak, in the order in which they are shown."""

PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "32-true": (torch.float32, None),
    "64-true": (torch.float64, None),
    "bf16-true": (torch.bfloat16, None),
    "16-true": (torch.float16, None),
    "bf16-mixed": (torch.float32, torch.bfloat16),
    "16-mixed": (torch.float32, torch.float16),
}
"""Lightning's names: dtype of the weights, and of autocast."""
_SHORT = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}

CUDA_GRANULARITY = 512
"""Bytes; to multiples of it torch's allocator for CUDA rounds every tensor."""


def precision_name(value: Any) -> str:
    """One of `PRECISIONS` for what ``--trainer.precision`` holds; None is Lightning's default.

    Raises:
        ConfigError: of another precision the memory is not known.
    """
    name = "32-true" if value is None else _SHORT.get(str(value), str(value))
    if name not in PRECISIONS:
        raise ConfigError(f"the memory of trainer.precision={value} is not known", f"choose of {', '.join(PRECISIONS)}")
    return name


@dataclass(frozen=True)
class Training:
    """All that the memory of a training step depends on."""

    clip: CLIPConfig
    """Sizes of the backbone."""
    model: dict[str, Any] = field(default_factory=dict)
    """Options of `TextVideoRetrieval` besides the backbone. Reducers are made anew for each prediction, so `reduction`
    is a list of their classes and options."""
    batch_size: int = 128
    """Videos, and captions, of one process in one batch."""
    frames: int = 12
    words: int = 32
    """Tokens of the longest caption."""
    precision: str = "32-true"
    accumulate: int = 1
    """Batches before each step of the optimiser."""
    processes: int = 1
    bucket_view: bool = False
    """DDP's ``gradient_as_bucket_view``: the gradients lie in the buffers that are sent."""
    clip_norm: float | None = 1.0
    clip_algorithm: str = "norm"
    on_cpu: bool = False
    """As it goes on a CPU, and not on a CUDA device: parameters are updated one by one, sizes are not rounded."""

    def module(self) -> TextVideoRetrieval:
        """The module, with random weights."""
        options = dict(self.model)
        reduction = [kind(**values) for kind, values in options.pop("reduction", None) or []]
        return TextVideoRetrieval(self.clip, reduction or None, num_frames=self.frames, **options)


@dataclass(frozen=True)
class Prediction:
    """Bytes at the moment when most is held."""

    parts: dict[str, int]
    """By `PARTS`, all of them."""

    @property
    def peak(self) -> int:
        """The sum of the parts: what ``torch.cuda.max_memory_allocated`` would say."""
        return sum(self.parts.values())

    @property
    def lasting(self) -> int:
        """What is there between steps, whatever the batch: weights, optimiser state and DDP's buffers."""
        return self.parts[WEIGHTS] + self.parts[OPTIMIZER]


def predict(training: Training) -> Prediction:
    """The peak memory of a training step, in bytes; nothing is computed and hardly any memory taken.

    The package's own module runs under `torch._subclasses.fake_tensor.FakeTensorMode`: forward, loss, backward,
    gradient clipping and optimiser step, in Lightning's order, so the last step's gradients are held until the backward
    pass begins. Captions are as long as they may be. Not seen: workspaces inside of operations (matrix products,
    convolutions, eigenvectors), NCCL's buffers, the CUDA context, and what the allocator cannot use again.

    Args:
        training: what is trained, and how.

    Raises:
        ConfigError: as `TextVideoRetrieval`.
    """
    dtype, autocast = PRECISIONS[training.precision]
    ledger = Ledger(1 if training.on_cpu else CUDA_GRANULARITY)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of heads that start at random, and of learning rates: no one trains here
        stack.enter_context(FakeTensorMode())
        stack.enter_context(_default_dtype(dtype))
        # All is made with its dtype in its place, and what a conversion does cannot be done to fake parameters.
        with mock.patch.object(torch.nn.Module, "to", lambda module, *_, **__: module):
            module = training.module()
        stack.enter_context(ledger)
        stack.enter_context(stand_ins(ledger, processes=training.processes, on_cpu=training.on_cpu))
        ledger.claim(WEIGHTS, [*module.parameters(), *module.buffers()])
        trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        buffers = []
        if training.processes > 1 and not training.bucket_view:
            with ledger.label(COMMUNICATION):
                buffers = [torch.empty_like(parameter) for parameter in trained.values()]
        state, updating = _with_state(module, trained, training, ledger)
        with ledger.label(INPUTS):
            batch = fake_batch(training)
        ledger.forget()
        context = nullcontext() if autocast is None else torch.autocast("cpu", dtype=autocast)
        for turn in range(training.accumulate):
            with context:
                loss = module.batch_loss(batch)
            if turn == 0:
                module.zero_grad()
            loss.backward()
            del loss
            ledger.claim(GRADIENTS, _gradients(trained))
        learning = ledger.peak()
        updating = updating | {part: learning.get(part, 0) for part in (INPUTS, COMMUNICATION)}
        del buffers, state
        parts = max(learning, updating, key=lambda found: sum(found.values()))
        return Prediction(dict.fromkeys(PARTS, 0) | parts)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def fake_batch(training: Training) -> Batch:
    """A training batch of the largest size that the options allow, on the CPU."""
    vision: Any = training.clip.vision_config
    count, side = training.batch_size, vision.image_size
    ids = torch.zeros(count, dtype=torch.int64)
    words = torch.ones(count, training.words, dtype=torch.int64)
    return Batch(
        frames=torch.zeros(count, training.frames, 3, side, side, dtype=torch.uint8),
        frame_mask=torch.ones(count, training.frames, dtype=torch.bool),
        video_ids=ids,
        input_ids=words,
        attention_mask=torch.ones_like(words),
        text_ids=torch.zeros_like(ids),
        video_of_text=torch.zeros_like(ids),
    )


_KNOWN: dict[Hashable, tuple[list[tuple[torch.Size, torch.dtype]], dict[str, int]]] = {}
"""Of trained parameters and a recipe: what the optimiser keeps, and the parts at its peak: half of the time."""


def _with_state(
    module: TextVideoRetrieval, trained: dict[str, torch.nn.Parameter], training: Training, ledger: Ledger
) -> tuple[list[Tensor], dict[str, int]]:
    """Gradients and the optimiser's state, as an earlier step leaves them; and the parts at the peak of an update."""
    recipe = module.optimizer_options.recipe
    shapes = tuple((name, parameter.shape, parameter.dtype) for name, parameter in trained.items())
    key = shapes, recipe, training.on_cpu, training.clip_norm, training.clip_algorithm
    for parameter in trained.values():
        parameter.grad = torch.empty_like(parameter)
    ledger.claim(GRADIENTS, _gradients(trained))
    if key not in _KNOWN:
        optimizer: Optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index,call-overload,assignment]
        if not training.on_cpu:  # on a GPU torch updates all parameters together, which takes copies of all
            for group in optimizer.param_groups:
                group["foreach"] = True
        optimizer.step()
        # Steps are counted on the host.
        kept = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
        ledger.claim(OPTIMIZER, kept)
        ledger.forget()
        _clip(list(trained.values()), training)
        optimizer.step()
        _KNOWN[key] = [(tensor.shape, tensor.dtype) for tensor in kept], ledger.peak()
        return kept, _KNOWN[key][1]
    with ledger.label(OPTIMIZER):
        state = [torch.empty(shape, dtype=dtype) for shape, dtype in _KNOWN[key][0]]
    return state, _KNOWN[key][1]


def _clip(trained: list[torch.nn.Parameter], training: Training) -> None:
    if training.clip_norm:
        by_norm = training.clip_algorithm == "norm"
        clip = torch.nn.utils.clip_grad_norm_ if by_norm else torch.nn.utils.clip_grad_value_
        clip(trained, training.clip_norm)


def _gradients(trained: dict[str, torch.nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in trained.values() if parameter.grad is not None]
