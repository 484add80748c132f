from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch.optim import AdamW

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.bert_adam import BertAdam
from centerclip_pl.training.optim import (
    OptimizerOptions,
    logit_scale_bounds,
    make_optimizer,
    parameter_groups,
    rate_factor,
)

# The highest rate's course over 6 steps in the published implementation of CenterCLIP (learning rate 5e-3, warm-up of
# 10 %, floor 1e-8), as its own training loop logged it; CLIP's parameters had a thousandth of it.
PUBLISHED = [1e-08, 0.004932612176449559, 0.004215604094671834, 0.0029341204441673263]
PUBLISHED += [0.0015098005849021091, 0.0004112804714676585]


def test_the_rates_of_the_published_implementation() -> None:
    options = OptimizerOptions()
    for step, expected in enumerate(PUBLISHED):
        assert options.peak_rate * rate_factor(step, 6, options) == pytest.approx(expected, rel=1e-9)


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
    rates = [options.peak_rate * rate_factor(step, total, options) for step in range(total + 3)]
    expected = [reference(step, total, 2e-4, warmup, 1e-6) for step in range(total + 3)]
    assert rates == pytest.approx(expected, rel=1e-9)
    assert min(rates) >= 1e-6 * (1 - 1e-9)
    assert rates[total:] == pytest.approx([1e-6] * 3)  # one step too many does not start another cosine
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize(
    ("step", "total", "expected"),
    [
        (0, 1000, 0.0),
        (50, 1000, 0.5),
        (99, 1000, 0.99),  # just below x = 0.1 ...
        (100, 1000, 0.9755282581475768),  # ... and (1 + cos 18 degrees) / 2 at it
        (250, 1000, 0.8535533905932737),  # (1 + cos 45 degrees) / 2
        (500, 1000, 0.5),
        (1000, 1000, 0.0),
        (1001, 1000, 0.0),  # one step too many does not start another cosine
        (0, 6, 0.0),
        (1, 6, 0.9330127018922193),  # warm-up within the first step
        (3, 6, 0.5),
        (3, 30, 0.9755282581475768),
        (0, 1, 0.0),
    ],
)
def test_the_rates_of_clip4clip(step: int, total: int, expected: float) -> None:
    assert rate_factor(step, total, OptimizerOptions(recipe="clip4clip")) == pytest.approx(expected, abs=1e-12)


def test_the_warm_up_of_clip4clip_can_be_set() -> None:
    without = OptimizerOptions(recipe="clip4clip", warmup=0.0)
    assert rate_factor(0, 10, without) == 1.0
    longer = OptimizerOptions(recipe="clip4clip", warmup=0.4)
    assert [rate_factor(step, 10, longer) for step in (1, 3)] == pytest.approx([0.25, 0.75])
    assert rate_factor(4, 10, longer) == pytest.approx((1 + math.cos(0.4 * math.pi)) / 2)


def test_the_highest_rate() -> None:
    assert OptimizerOptions().peak_rate == OptimizerOptions(recipe="centerclip").peak_rate == 5e-3
    assert OptimizerOptions(recipe="clip4clip").peak_rate == 1e-4
    assert OptimizerOptions(recipe="clip4clip", learning_rate=0.3).peak_rate == 0.3


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


def test_frozen_parameters_are_in_no_group() -> None:
    tower = Tower()
    tower.linear.requires_grad_(False)
    groups = parameter_groups(tower.named_parameters("clip"), [], OptimizerOptions())
    members = {group["name"]: [id(p) for p in group["params"]] for group in groups}
    assert members == {"clip_decayed": [id(tower.scale), id(tower.norm.weight)], "clip": [id(tower.norm.bias)]}


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


def test_the_optimizer_of_clip4clip() -> None:
    options = OptimizerOptions("clip4clip", 0.1, clip_scale=0.5, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.4)
    weight, bias = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(parameter_groups([("weight", weight)], [("bias", bias)], options), options)
    assert isinstance(optimizer, BertAdam)
    (3 * weight + 0.5 * bias).sum().backward()
    optimizer.step()
    # The first step without bias correction, from gradients of 1 (clipped) and 0.5 (not): 0.2 g / (sqrt(0.1) g + eps).
    assert bias.item() == pytest.approx(2.0 - 0.1 * (0.2 * 0.5 / (math.sqrt(0.1) * 0.5 + 1e-3)), rel=1e-6)
    assert weight.item() == pytest.approx(2.0 - 0.05 * (0.2 / (math.sqrt(0.1) + 1e-3) + 0.4 * 2.0), rel=1e-6)


def test_the_bounds_of_the_logit_scale() -> None:
    assert logit_scale_bounds(OptimizerOptions(), 4.6052) == (0.1, 4.6052)
    clip4clip = OptimizerOptions(recipe="clip4clip")
    assert logit_scale_bounds(clip4clip, 4.6052) == (None, math.log(100))
    assert logit_scale_bounds(clip4clip, 3.0) == (None, 3.0)
    assert logit_scale_bounds(clip4clip, 5.0) == (None, 5.0)
    scale = torch.tensor([-1.0, 2.0, 9.0])
    assert scale.clone().clamp_(*logit_scale_bounds(clip4clip, 3.0)).tolist() == [-1.0, 2.0, 3.0]


def test_options_from_a_file(tmp_path: Path) -> None:
    """As experiment files and the command line give them."""
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--optimizer", type=OptimizerOptions | None)
    file = tmp_path / "experiment.yaml"

    def read(text: str, *arguments: str) -> OptimizerOptions:
        file.write_text(text)
        found: OptimizerOptions = parser.instantiate(parser.parse_args([f"--config={file}", *arguments])).optimizer
        return found

    assert read("optimizer:\n  learning_rate: 5.0e-4\n") == OptimizerOptions(learning_rate=5e-4)
    assert read("optimizer:\n  recipe: clip4clip\n") == OptimizerOptions("clip4clip")
    assert read("optimizer:\n  learning_rate: null\n").peak_rate == 5e-3
    assert read("optimizer:\n  learning_rate: 0.1\n", "--optimizer.recipe=clip4clip") == OptimizerOptions(
        "clip4clip", 0.1
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipe": "adam"},
        {"learning_rate": 0.0},
        {"learning_rate": 0.0, "recipe": "clip4clip"},
        {"learning_rate": float("nan")},
        {"clip_scale": -1.0},
        {"weight_decay": -0.1},
        {"betas": (0.9, 1.0)},
        {"eps": -1e-6},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"floor": -1e-8},
        {"floor": 1.0},
        {"floor": 1e-5, "recipe": "clip4clip"},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"optimizer.{next(iter(wrong))} is "):
        OptimizerOptions(**wrong)  # type: ignore[arg-type]
