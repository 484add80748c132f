"""What encoding a video costs: multiplications, time, memory.

CenterCLIP's claim is about cost as much as about accuracy, so both stand in the same ``results.json``. The figures are
measured on the machine at hand with the model as it is; they compare runs on one machine, not machines.
"""

from __future__ import annotations

import contextlib
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

MEBIBYTE = 2**20


class _LaterCost(TypedDict, total=False):
    """What files of earlier versions lack."""

    measured_again: str
    """When ``centerclip cost`` measured the times, ISO 8601, UTC; absent where they were measured as the run ended."""


class Cost(_LaterCost):
    """What :func:`measure_cost` returns; all figures are for evaluation, not for training."""

    gmacs_per_video: float
    """Multiply-accumulates of matrix products, convolutions, attention and pairwise distances, in 10^9. Eigensolvers,
    sorting and element-wise operations are not counted."""
    encode_ms_per_video: float
    """Milliseconds from uint8 frames on the device to segment embeddings: median of the repetitions / batch size."""
    clustering_ms_per_video: float
    """The part of ``encode_ms_per_video`` that is spent in ``model.reducers``; 0 without reducers."""
    peak_memory_mb: float
    """In MiB, of the kind that ``peak_memory_kind`` names."""
    peak_memory_kind: str
    """``"cuda allocated"``: most that tensors held while the video was encoded, weights included. ``"process resident
    set"``: most that this process has ever held, so training, if it took place in it, and all libraries included."""
    batch_size: int
    frames: int
    repetitions: int
    device: str
    """The name of the GPU, or ``"cpu"``."""
    dtype: str
    """Of the weights; ``"float32, autocast bfloat16"`` where autocast was on."""
    threads: int
    """CPU threads that torch used."""


def measure_cost(
    model: nn.Module,
    frames: Tensor,
    frame_mask: Tensor | None = None,
    *,
    repetitions: int = 5,
    budget_seconds: float = 60.0,
    autocast: torch.dtype | None = None,
) -> Cost:
    """Measures ``model.encode_video`` on the device and with the weights that the model has.

    The model is put into evaluation mode and its mode is restored. One pass counts the operations and warms up, then
    the timed passes follow. Time inside the reducers is taken by hooks around ``forward`` of every module in
    ``model.reducers`` (an ``nn.ModuleList``; may be absent or empty), on a GPU with events in the stream, so that
    measuring does not add synchronisations to what is measured.

    Args:
        model: has ``encode_video(frames, frame_mask)``.
        frames: uint8 ``[B, T, 3, H, W]`` (or what else ``encode_video`` takes), usually with B = 1; moved to the
            device.
        frame_mask: bool ``[B, T]``; all frames count if None.
        repetitions: timed passes; at least 1.
        budget_seconds: no further pass is started after that many seconds of timed passes.
        autocast: the dtype that evaluation ran under (``torch.bfloat16`` for ``precision="bf16-mixed"``).

    Raises:
        ValueError: if ``repetitions`` is less than 1 or ``frames`` has no batch dimension.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}, at least 1 is needed")
    if frames.ndim != 5 or len(frames) == 0:
        raise ValueError(f"frames has the shape {tuple(frames.shape)}; [B, T, 3, H, W] with B >= 1 is needed")
    parameter = next(model.parameters())
    device = parameter.device
    frames = frames.to(device)
    frame_mask = None if frame_mask is None else frame_mask.to(device)
    encode_video = cast("Callable[[Tensor, Tensor | None], Any]", model.encode_video)

    def encode() -> None:
        encode_video(frames, frame_mask)

    batch_size = len(frames)
    with _evaluating(model), torch.inference_mode(), _autocast(device, autocast):
        macs = count_macs(encode)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        encode_ms, reducer_ms = _time(encode, _reducers(model), device, repetitions, budget_seconds)
        memory, kind = _peak_memory(device)
    dtype = _short(parameter.dtype) + ("" if autocast is None else f", autocast {_short(autocast)}")
    return Cost(
        gmacs_per_video=macs / batch_size / 1e9,
        encode_ms_per_video=statistics.median(encode_ms) / batch_size,
        clustering_ms_per_video=statistics.median(reducer_ms) / batch_size,
        peak_memory_mb=memory / MEBIBYTE,
        peak_memory_kind=kind,
        batch_size=batch_size,
        frames=frames.shape[1],
        repetitions=len(encode_ms),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=dtype,
        threads=torch.get_num_threads(),
    )


def _distance_flops(a: list[int], b: list[int], *args: Any, out_shape: list[int], **kwargs: Any) -> int:
    """cdist: one multiply-accumulate for each pair and channel; ``a`` is [..., N, C], ``out_shape`` [..., N, M]."""
    return 2 * math.prod(out_shape) * a[-1]


def count_macs(encode: Callable[[], None]) -> int:
    """Multiply-accumulates of one call, two floating point operations each; which are counted, `Cost` says.

    The counter knows no formula for the CPU's fused attention and would count it as nothing. Attention is therefore
    forced into its plain form, two batched products, which every device counts alike. A compiled graph would hide what
    it calls as well.
    """
    distances = {torch.ops.aten._cdist_forward: _distance_flops, torch.ops.aten._euclidean_dist: _distance_flops}
    with torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False, custom_mapping=distances) as counter:
            encode()
    return counter.get_total_flops() // 2


def _time(
    encode: Callable[[], None], reducers: list[nn.Module], device: torch.device, repetitions: int, budget: float
) -> tuple[list[float], list[float]]:
    """Milliseconds of each call, and of the part of it that the reducers took."""
    clock: _Clock = _CudaClock(device) if device.type == "cuda" else _CpuClock()
    marks: list[Any] = []
    encode_ms: list[float] = []
    reducer_ms: list[float] = []
    with contextlib.ExitStack() as hooks:
        for reducer in reducers:
            # Pairs of marks never nest: a reducer that holds reducers is one entry of model.reducers.
            hooks.callback(reducer.register_forward_pre_hook(lambda *_: marks.append(clock.mark())).remove)
            hooks.callback(reducer.register_forward_hook(lambda *_: marks.append(clock.mark())).remove)
        encode()  # once more without the counter: kernels are chosen and memory is allocated in the first call
        began = time.perf_counter()
        while len(encode_ms) < repetitions and (not encode_ms or time.perf_counter() - began < budget):
            marks.clear()
            start = clock.mark()
            encode()
            end = clock.mark()
            encode_ms.append(clock.milliseconds(start, end))
            reducer_ms.append(sum(clock.milliseconds(a, b) for a, b in zip(marks[::2], marks[1::2], strict=True)))
    return encode_ms, reducer_ms


class _Clock(Protocol):
    """Marks points in time, cheaply; afterwards says how far two of them are apart."""

    def mark(self) -> Any: ...

    def milliseconds(self, start: Any, end: Any) -> float: ...


class _CpuClock:
    def mark(self) -> float:
        return time.perf_counter()

    def milliseconds(self, start: float, end: float) -> float:
        return 1e3 * (end - start)


class _CudaClock:
    """Events in the stream: they are as exact as synchronising at each mark, and do not make the GPU wait."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def milliseconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end)


def _reducers(model: nn.Module) -> list[nn.Module]:
    return list(cast("nn.ModuleList", getattr(model, "reducers", None) or []))


def _peak_memory(device: torch.device) -> tuple[float, str]:
    """Bytes, and what they are."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "cuda allocated"
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "process resident set"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode that it was in (some may have been frozen in eval)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
