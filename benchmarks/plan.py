"""How a run measures: where, how often, and at which size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.timing import Times, measure


@dataclass(frozen=True)
class Plan:
    """What every measurement is given."""

    device: str = "cpu"
    repetitions: int = 30
    """Of what is short; longer things are repeated less often."""
    quick: bool = False
    """Toy sizes, twice: to see that the benchmark works. Its figures mean nothing."""

    def measure(
        self, things: Sequence[Callable[[], object]], share: int = 1, *, least: int = 3, warmup: int = 2
    ) -> list[Times]:
        """Runs things in turn; see `benchmarks.timing.measure`.

        Args:
            things: functions without arguments.
            share: a `share`-th of the repetitions, for long things.
            least: but at least so many.
            warmup: turns before that are not timed.
        """
        turns = 2 if self.quick else max(least, self.repetitions // share)
        return measure(things, turns, device=self.device, warmup=min(warmup, 1) if self.quick else warmup)
