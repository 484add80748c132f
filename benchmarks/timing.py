"""Times of several things in turn, so that what slows the machine down slows all of them down alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of each repetition; the i-th times of all things were taken one after another."""

    seconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """Milliseconds."""
        return 1e3 * statistics.median(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """How many times as long (or as large) one thing is as another: of each repetition, summed up."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    repetitions: int

    @classmethod
    def of(cls, above: Times, below: Times) -> Ratio:
        """The ratios of times taken in the same turn."""
        ratios = [a / b for a, b in zip(above.seconds, below.seconds, strict=True)]
        if len(ratios) == 1:
            return cls(ratios[0], ratios[0], ratios[0], 1)
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high, len(ratios))


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
        device: ``"cuda"``: the GPU is waited for before and after each.
        warmup: turns before, which choose kernels and allocate memory.
        clock: seconds.
    """

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

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
