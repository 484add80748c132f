"""The two published recipes at work: parameter groups, optimiser, schedule, and the logit scale's bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from centerclip_pl.training.bert_adam import BertAdam
from centerclip_pl.training.recipes import OptimizerOptions

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
