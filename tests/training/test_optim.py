from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.optim import OptimizerOptions, make_optimizer, parameter_groups, rate_factor

# The highest rate's course over 6 steps in the published implementation of CenterCLIP (learning rate 5e-3, warm-up of
# 10 %, floor 1e-8), as its own training loop logged it; CLIP's parameters had a thousandth of it.
PUBLISHED = [1e-08, 0.004932612176449559, 0.004215604094671834, 0.0029341204441673263]
PUBLISHED += [0.0015098005849021091, 0.0004112804714676585]


def test_the_rates_of_the_published_implementation() -> None:
    options = OptimizerOptions()
    for step, expected in enumerate(PUBLISHED):
        assert options.learning_rate * rate_factor(step, 6, options) == pytest.approx(expected, rel=1e-9)


def reference(step: int, total: int, lr: float, warmup: float, floor: float) -> float:
    """The rate itself, from the words of the paper: up in a straight line, down along half a cosine."""
    rise = warmup * total
    if step < rise:
        return floor + (lr - floor) * (step / rise)
    angle = math.pi * min(1.0, (step - rise) / (total - rise))
    return max(floor, lr * (1 + math.cos(angle)) / 2)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.1), (7, 0.1), (100, 0.1), (100, 0.0), (10, 0.95), (1000, 0.25)])
def test_the_course_of_the_rate(total: int, warmup: float) -> None:
    options = OptimizerOptions(learning_rate=2e-4, warmup=warmup, floor=1e-6)
    rates = [options.learning_rate * rate_factor(step, total, options) for step in range(total + 3)]
    expected = [reference(step, total, 2e-4, warmup, 1e-6) for step in range(total + 3)]
    assert rates == pytest.approx(expected, rel=1e-9)
    assert min(rates) >= 1e-6 * (1 - 1e-9)
    assert rates[total:] == pytest.approx([1e-6] * 3)  # one step too many does not start another cosine
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)


def named(prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
    torch.manual_seed(0)
    return Tower().named_parameters(prefix)


def test_groups() -> None:
    clip, new = dict(named("clip")), dict(named("new"))
    options = OptimizerOptions(learning_rate=0.5, clip_scale=0.01, weight_decay=0.3)
    groups = {group["name"]: group for group in parameter_groups(clip.items(), new.items(), options)}
    assert [(name, group["lr"], group["weight_decay"]) for name, group in groups.items()] == [
        ("clip_decayed", 0.005, 0.3),
        ("clip", 0.005, 0.0),
        ("new_decayed", 0.5, 0.3),
        ("new", 0.5, 0.0),
    ]
    names = {id(parameter): name for name, parameter in (clip | new).items()}
    members = {name: {names[id(p)] for p in group["params"]} for name, group in groups.items()}
    for origin in ("clip", "new"):
        weights = {f"{origin}.linear.weight", f"{origin}.norm.weight", f"{origin}.scale"}
        assert members[f"{origin}_decayed"] == weights
        assert members[origin] == {f"{origin}.linear.bias", f"{origin}.norm.bias"}


def test_empty_groups_are_left_out() -> None:
    weight = nn.Parameter(torch.ones(2))
    assert [g["name"] for g in parameter_groups([("weight", weight)], [], OptimizerOptions())] == ["clip_decayed"]
    assert [g["name"] for g in parameter_groups([], [("bias", weight)], OptimizerOptions())] == ["new"]


def test_the_optimizer() -> None:
    options = OptimizerOptions(learning_rate=0.1, clip_scale=0.5, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.4)
    weight, bias = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(parameter_groups([("weight", weight), ("bias", bias)], [], options), options)
    assert isinstance(optimizer, AdamW)
    (3 * weight + 3 * bias).sum().backward()
    optimizer.step()
    # Adam's first step is lr * g / (|g| + eps), the decay lr * decay * weight.
    step = 0.05 * 3 / (3 + 1e-3)
    assert bias.item() == pytest.approx(2.0 - step, rel=1e-6)
    assert weight.item() == pytest.approx(2.0 - 0.05 * 0.4 * 2.0 - step, rel=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"clip_scale": -1.0},
        {"weight_decay": -0.1},
        {"betas": (0.9, 1.0)},
        {"eps": -1e-6},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"floor": -1e-8},
        {"floor": 1.0},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"optimizer.{next(iter(wrong))} is "):
        OptimizerOptions(**wrong)  # type: ignore[arg-type]
