"""CenterCLIP's optimiser, parameter groups and learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import AdamW

from centerclip_pl.errors import ConfigError


@dataclass
class OptimizerOptions:
    """The recipe of the CenterCLIP paper (section 4.1); the defaults are the paper's.

    Args:
        learning_rate: the highest rate, of parameters that CLIP does not have.
        clip_scale: CLIP's own parameters learn at ``learning_rate * clip_scale``.
        weight_decay: AdamW's, of all parameters without "bias" in their name.
        betas: AdamW's.
        eps: AdamW's.
        warmup: share of all steps over which the rate rises linearly.
        floor: the lowest rate, at the first step and after the last, before `clip_scale`.
    """

    learning_rate: float = 5e-3
    clip_scale: float = 1e-3
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    warmup: float = 0.1
    floor: float = 1e-8

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"optimizer.learning_rate is {self.learning_rate}, but must be positive")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"optimizer.warmup is {self.warmup}, but must be a share of all steps, 0 to below 1")
        for name in ("clip_scale", "weight_decay", "eps"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"optimizer.{name} is {getattr(self, name)}, but cannot be negative")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas is {list(self.betas)}, but must be two numbers from 0 to below 1")
        if not 0 <= self.floor <= self.learning_rate:
            raise ConfigError(f"optimizer.floor is {self.floor}, but must lie between 0 and the learning rate")


GROUPS = ("clip_decayed", "clip", "new_decayed", "new")


def parameter_groups(
    clip: Iterable[tuple[str, nn.Parameter]], new: Iterable[tuple[str, nn.Parameter]], options: OptimizerOptions
) -> list[dict[str, Any]]:
    """Groups for AdamW: CLIP's parameters and new ones, each with decay and (those named "bias") without.

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
            "lr": options.learning_rate * (options.clip_scale if name.startswith("clip") else 1.0),
            "weight_decay": options.weight_decay if name.endswith("_decayed") else 0.0,
        }
        for name, parameters in members.items()
        if parameters
    ]


def make_optimizer(groups: list[dict[str, Any]], options: OptimizerOptions) -> AdamW:
    """AdamW over groups as `parameter_groups` gives them."""
    return AdamW(groups, lr=options.learning_rate, betas=options.betas, eps=options.eps)


def rate_factor(step: int, total_steps: int, options: OptimizerOptions) -> float:
    """The learning rate of a step as a factor of the highest one.

    Linear from `floor` over the first `warmup` of all steps (not rounded to whole steps), then half a cosine back.

    Args:
        step: optimiser steps already taken.
        total_steps: all steps of the run.
        options: the recipe.
    """
    floor = options.floor / options.learning_rate
    rise = options.warmup * total_steps
    if step < rise:
        return floor + (1 - floor) * step / rise
    share = min((step - rise) / max(total_steps - rise, 1e-12), 1.0)
    return max(0.5 * (1 + math.cos(math.pi * share)), floor)
