"""Two settings side by side: which is better, by how much, how sure that is, and at what cost."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from centerclip_pl.statistics.cost import CostComparison
from centerclip_pl.statistics.paired import Difference, McNemar
from centerclip_pl.statistics.seeds import Spread
from centerclip_pl.statistics.verdict import Verdict, say_p, unit, verdict_of


@dataclass(frozen=True)
class MetricComparison:
    """One metric of A and B."""

    name: str
    """``t2v/R@1``, ..."""
    a: Spread
    b: Spread
    difference: Difference
    """B less A: over videos and seeds where both have two or more, otherwise over videos alone. Without ranks (metrics
    of some of the queries only) without interval: its ends are NaN."""
    p_videos: float | None
    """Of the sign flips over videos, for these trained models; None of medians and without ranks."""
    p_wilcoxon: float | None
    """Of MnR alone."""
    mcnemar: McNemar | None
    """Of R@k, with one run each and one query a video."""
    by_seed: dict[int, float]
    """The difference of the runs of each seed that both have."""

    @property
    def verdict(self) -> Verdict:
        """Of this metric by itself."""
        return verdict_of(self.name, self.difference.low, self.difference.high)


@dataclass(frozen=True)
class Side:
    """The runs of one of the two settings."""

    label: str
    """The options in which it differs from the other."""
    runs: list[str]
    seeds: list[int | None]


@dataclass(frozen=True)
class Comparison:
    """What :func:`centerclip_pl.statistics.compare` finds."""

    dataset: str
    split: str
    protocol: str
    videos: int
    texts: int
    a: Side
    b: Side
    metric: str
    """What the verdict is about."""
    metrics: list[MetricComparison]
    costs: list[CostComparison]
    notes: list[str]
    """What to know before one believes the figures, each a sentence."""
    confidence: float
    resamples: int
    of_methods: bool
    """Whether the intervals of the differences hold for the methods (videos and seeds), or for the trained models
    alone (videos)."""
    same_runs: bool

    @property
    def main(self) -> MetricComparison:
        """The comparison of ``metric``."""
        return next(each for each in self.metrics if each.name == self.metric)

    @property
    def verdict(self) -> Verdict:
        """In words that do not change: a program may compare them."""
        return "A and B are the same runs" if self.same_runs else self.main.verdict

    def sentences(self) -> str:
        """The verdict in two or three sentences: which, by how much, how sure, at what cost."""
        if self.same_runs:
            return f"A and B are the same runs ({', '.join(self.a.runs)}): there is nothing to compare."
        main, difference = self.main, self.main.difference
        figures = f"{main.name} is {main.a.mean:.1f} with A and {main.b.mean:.1f} with B"
        if math.isnan(difference.low):
            return f"No difference can be told: {figures}, and there are too few videos for an interval."
        sure = ", ".join(
            filter(
                None,
                [
                    f"{100 * self.confidence:g} % interval of B less A {difference.low:+.1f} to {difference.high:+.1f}",
                    say_p(difference.p),
                ],
            )
        )
        if main.verdict == "no difference can be told":
            first = f"No difference can be told: {figures} ({sure})."
        else:
            first = f"{main.verdict} by {unit(main.name, difference.value)}: {figures} ({sure})."
        first = " ".join(filter(None, [first, self._price()]))
        if self.of_methods:
            return f"{first} This counts other videos and other seeds ({main.a.n} of A, {main.b.n} of B)."
        models = "these two trained models" if main.a.n == main.b.n == 1 else "these trained models"
        return (
            f"{first} This holds for {models} on other videos, not for the methods: with one seed nobody knows what "
            "training again would give."
        )

    def _price(self) -> str:
        """What B costs beside A."""
        macs = next((each for each in self.costs if each.name == "gmacs" and each.ratio is not None), None)
        if macs is None or macs.ratio is None:
            return ""
        if math.isclose(macs.ratio, 1, abs_tol=0.005):
            return f"Both take {macs.a:.3g} GMACs a video."
        figures = f"{macs.b:.3g} against {macs.a:.3g} GMACs a video"
        return f"B takes {macs.ratio:.2f} times the multiplications of A ({figures})."

    def to_dict(self) -> dict[str, Any]:
        """Everything, with None in place of NaN, as JSON can say it."""
        content = dataclasses.asdict(self)
        for each, metric in zip(content["metrics"], self.metrics, strict=True):
            each["verdict"] = metric.verdict
        return _without_nan({"verdict": self.verdict, "summary": self.sentences(), **content})


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
