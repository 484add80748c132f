"""The two published recipes: options, parameter groups, optimiser, schedule, and the logit scale's bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import AdamW, Optimizer

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.bert_adam import BertAdam

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


GROUPS = ("clip_decayed", "clip", "new_decayed", "new")


def parameter_groups(
    clip: Iterable[tuple[str, nn.Parameter]], new: Iterable[tuple[str, nn.Parameter]], options: OptimizerOptions
) -> list[dict[str, Any]]:
    """Groups for the optimiser: CLIP's parameters and new ones, each with decay and (those named "bias") without.

    Frozen parameters (``requires_grad`` false) are in no group.

    Args:
        clip: named parameters that came from CLIP.
        new: named parameters added to it.
        options: the recipe.

    Returns:
        The groups that have parameters, in the order of `GROUPS`, each with its name, highest rate and decay.
    """
    members: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for origin, named in (("clip", clip), ("new", new)):
        for name, parameter in named:
            if parameter.requires_grad:
                members[origin if "bias" in name else f"{origin}_decayed"].append(parameter)
    return [
        {
            "params": parameters,
            "name": name,
            "lr": options.peak_rate * (options.clip_scale if name.startswith("clip") else 1.0),
            "weight_decay": options.weight_decay if name.endswith("_decayed") else 0.0,
        }
        for name, parameters in members.items()
        if parameters
    ]


def make_optimizer(groups: list[dict[str, Any]], options: OptimizerOptions) -> Optimizer:
    """The recipe's optimiser over groups as `parameter_groups` gives them: AdamW or `BertAdam`."""
    if options.recipe == "clip4clip":
        return BertAdam(groups, lr=options.peak_rate, betas=options.betas, eps=options.eps)
    return AdamW(groups, lr=options.peak_rate, betas=options.betas, eps=options.eps)


def rate_factor(step: int, total_steps: int, options: OptimizerOptions) -> float:
    """The learning rate of a step as a factor of the highest one; `OptimizerOptions` gives the formulas.

    The warm-up is not rounded to whole steps. Steps beyond the last have the last one's rate.

    Args:
        step: optimiser steps already taken.
        total_steps: all steps of the run.
        options: the recipe.
    """
    if options.recipe == "clip4clip":
        share = min(step / total_steps, 1.0)
        return share / options.warmup if share < options.warmup else _half_cosine(share)
    floor = options.floor / options.peak_rate
    rise = options.warmup * total_steps
    if step < rise:
        return floor + (1 - floor) * step / rise
    share = min((step - rise) / max(total_steps - rise, 1e-12), 1.0)
    return max(_half_cosine(share), floor)


def _half_cosine(share: float) -> float:
    """From 1 at 0 down to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))


def logit_scale_bounds(options: OptimizerOptions, max_logit_scale: float) -> tuple[float | None, float]:
    """Between which values the logit scale (a logarithm) is kept after each step, in the order of ``clamp``.

    Args:
        options: the recipe; centerclip has a lower bound of 0.1, clip4clip none.
        max_logit_scale: the upper bound. CenterCLIP's 4.6052 is ln 100 rounded; with clip4clip, whose bound is ln 100
            itself, a value that close to it is taken for it.
    """
    if options.recipe == "clip4clip":
        exact = math.log(100)
        return None, exact if abs(max_logit_scale - exact) < 5e-5 else max_logit_scale
    return 0.1, max_logit_scale
