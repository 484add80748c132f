"""The interleaved timer, on clocks whose hands are moved by what is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from benchmarks.plan import Plan
from benchmarks.timing import Summary, Times, measure, ratio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def takes(self, name: str, seconds: Iterator[float]) -> Callable[[], None]:
        def thing() -> None:
            self.calls.append(name)
            self.now += next(seconds)

        return thing


def test_things_take_turns_and_the_warm_up_does_not_count() -> None:
    clock = Clock()
    a = clock.takes("a", iter([50.0, 1.0, 2.0, 3.0]))
    b = clock.takes("b", iter([70.0, 4.0, 4.0, 6.0]))
    found = measure([a, b], 3, warmup=1, clock=clock)
    assert clock.calls == ["a", "b"] * 4
    assert [times.seconds for times in found] == [(1.0, 2.0, 3.0), (4.0, 4.0, 6.0)]
    assert [times.median_ms for times in found] == [2000.0, 4000.0]


def test_a_ratio_is_of_pairs_and_not_of_medians() -> None:
    """A machine that is ten times as slow in one turn is so for both, and changes nothing."""
    above, below = Times((2.0, 20.0, 3.0)), Times((1.0, 10.0, 2.0))
    assert ratio(above, below) == Summary(2.0, 1.75, 2.0, 3)
    assert above.ms.median / below.ms.median == 1.5  # which is what it would be otherwise


def test_quartiles() -> None:
    assert Summary.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Summary(3.0, 2.0, 4.0, 5)
    assert Summary.of(iter([7.0])) == Summary(7.0, 7.0, 7.0, 1)


def test_times_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio(Times((1.0, 2.0)), Times((1.0,)))


@pytest.mark.parametrize(
    ("plan", "share", "least", "turns"),
    [
        (Plan(repetitions=30), 1, 3, 30),
        (Plan(repetitions=30), 10, 3, 3),
        (Plan(repetitions=4), 10, 3, 3),
        (Plan(repetitions=30, quick=True), 1, 3, 2),
    ],
)
def test_a_plan_says_how_often(plan: Plan, share: int, least: int, turns: int) -> None:
    calls: list[int] = []
    (times,) = plan.measure([lambda: calls.append(1)], share, least=least, warmup=2)
    assert len(times.seconds) == turns
    assert len(calls) == turns + (1 if plan.quick else 2)
