"""What a comparison comes to, in words."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["B is better", "A is better", "no difference can be told", "A and B are the same runs"]


def more_is_better(metric: str) -> bool:
    """True of recalls, False of ranks."""
    return metric.rpartition("/")[2].startswith("R@")


def verdict_of(metric: str, low: float, high: float) -> Verdict:
    """By whether the interval of B less A leaves out 0, and on which side; NaN is no interval."""
    if low > 0:
        return "B is better" if more_is_better(metric) else "A is better"
    if high < 0:
        return "A is better" if more_is_better(metric) else "B is better"
    return "no difference can be told"


def unit(metric: str, value: float) -> str:
    """``4.7 points`` of a recall, ``1.5 ranks``; without its sign."""
    name = "point" if more_is_better(metric) else "rank"
    said = f"{abs(value):.1f}"
    return f"{said} {name}" if said == "1.0" else f"{said} {name}s"


def say_p(p: float | None) -> str:
    """``p = 0.012``, ``p < 0.001``; nothing where there is none."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
