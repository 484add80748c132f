"""The options of the two published recipes; without torch, for whatever reads the options of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from centerclip_pl.errors import ConfigError

LEARNING_RATES = {"centerclip": 5e-3, "clip4clip": 1e-4}
"""The highest rate of each recipe, of parameters that CLIP does not have."""
DEFAULT_FLOOR = 1e-8


@dataclass
class OptimizerOptions:
    """How a model is trained; the defaults are those of the chosen recipe's paper.

    ``"centerclip"`` (arXiv 2205.00823, section 4.1): AdamW. The rate rises linearly from `floor`, then falls along half
    a cosine of the remaining steps.

    ``"clip4clip"`` (arXiv 2104.08860, section 4.2): `BertAdam`, that is Adam without bias correction, each parameter's
    gradient clipped to norm 1. With x the share of all steps taken, the rate is x / warmup times the highest while
    x < warmup, then (1 + cos(pi x)) / 2 times. The first step therefore changes nothing, and the rate drops a little
    where the warm-up ends.

    Args:
        recipe: ``"centerclip"`` or ``"clip4clip"``.
        learning_rate: the highest rate, of parameters that CLIP does not have; null: the recipe's own, 5e-3 for
            centerclip and 1e-4 for clip4clip.
        clip_scale: CLIP's own parameters learn at this times the rate.
        weight_decay: decoupled from the gradient, of all parameters without "bias" in their name.
        betas: Adam's.
        eps: Adam's.
        warmup: share of all steps over which the rate rises linearly.
        floor: the lowest rate, at the first step and after the last, before `clip_scale`; of centerclip only.
    """

    recipe: Literal["centerclip", "clip4clip"] = "centerclip"
    learning_rate: float | None = None
    clip_scale: float = 1e-3
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    warmup: float = 0.1
    floor: float = DEFAULT_FLOOR

    @property
    def peak_rate(self) -> float:
        """The highest rate of new parameters: `learning_rate`, or the recipe's own."""
        return LEARNING_RATES[self.recipe] if self.learning_rate is None else self.learning_rate

    def __post_init__(self) -> None:
        if self.recipe not in LEARNING_RATES:
            known = " or ".join(map(repr, LEARNING_RATES))
            raise ConfigError(f"optimizer.recipe is {self.recipe!r}, but must be {known}")
        if not self.peak_rate > 0:
            raise ConfigError(f"optimizer.learning_rate is {self.learning_rate}, but must be positive")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"optimizer.warmup is {self.warmup}, but must be a share of all steps, 0 to below 1")
        for name in ("clip_scale", "weight_decay", "eps"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"optimizer.{name} is {getattr(self, name)}, but cannot be negative")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas is {list(self.betas)}, but must be two numbers from 0 to below 1")
        if self.recipe == "centerclip":
            if not 0 <= self.floor <= self.peak_rate:
                raise ConfigError(f"optimizer.floor is {self.floor}, but must lie between 0 and the learning rate")
        elif self.floor != DEFAULT_FLOOR:
            raise ConfigError(
                f"optimizer.floor is {self.floor}, but the recipe {self.recipe} has no lowest rate",
                "leave optimizer.floor out, or choose the recipe centerclip",
            )
