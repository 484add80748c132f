"""Times of several things in turn, so that what slows the machine down slows all of them down alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Summary:
    """Of some numbers."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    repetitions: int

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Summary:
        """Quartiles as `statistics.quantiles` has them, the numbers being all there are."""
        numbers = list(numbers)
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0], 1)
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        return cls(median, low, high, len(numbers))


@dataclass(frozen=True)
class Times:
    """Seconds of each repetition; the i-th times of all things were taken one after another."""

    seconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """Milliseconds."""
        return self.ms.median

    @property
    def ms(self) -> Summary:
        """Milliseconds."""
        return Summary.of(1e3 * second for second in self.seconds)


def ratio(above: Times, below: Times) -> Summary:
    """How many times as long one thing takes as another: of the ratios of times taken in the same turn."""
    return Summary.of(a / b for a, b in zip(above.seconds, below.seconds, strict=True))


def measure(
    things: Sequence[Callable[[], object]],
    repetitions: int,
    *,
    device: str = "cpu",
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Times]:
    """Runs all things in turn, `repetitions` times.

    Args:
        things: functions without arguments.
        repetitions: turns that are timed.
        device: ``"cuda"``: the GPU is waited for before and after each, so that launching counts as well.
        warmup: turns before, which choose kernels and allocate memory.
        clock: seconds.
    """

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    seconds: list[list[float]] = [[] for _ in things]
    for turn in range(warmup + repetitions):
        for thing, taken in zip(things, seconds, strict=True):
            wait()
            start = clock()
            thing()
            wait()
            if turn >= warmup:
                taken.append(clock() - start)
    return [Times(tuple(taken)) for taken in seconds]
