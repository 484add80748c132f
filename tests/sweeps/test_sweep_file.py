from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps.sweep_file import read_sweep

SEGMENTS = {"tokens.segments": {"values": [2, 4]}, "dataset": {"value": "demo"}}


def test_a_run_gets_the_words_that_wandb_agent_writes(make_sweep: Any) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = make_sweep(SEGMENTS)
    parameters = {"dataset": "demo", "tokens.segments": 4, "data.fps": None, "x": True, "rate": 1e-05}
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
    assert sweep.words(parameters) == ["train", *theirs["args"]]
    assert sweep.with_words(["--trainer.max_epochs=1"]).words({"a": 1}) == ["train", "--a=1", "--trainer.max_epochs=1"]


def test_what_a_sweep_says_about_itself(make_sweep: Any) -> None:
    sweep = make_sweep({**SEGMENTS, "one": {"values": [7]}})
    assert sweep.varied == ("tokens.segments",)
    assert (sweep.name, sweep.method, sweep.metric, sweep.maximizes) == ("small", "grid", "val/t2v/R@1", True)
    assert sweep.dataset == "demo"
    assert sweep.with_value("dataset", "msrvtt").dataset == "msrvtt"
    assert sweep.dataset == "demo"  # not changed in place
    assert sweep.identity() == make_sweep({**SEGMENTS, "one": {"values": [7]}}).identity()
    assert sweep.identity() != sweep.with_value("dataset", "msrvtt").identity()
    assert sweep.identity() != sweep.with_words(["--trainer.max_epochs=1"]).identity()
    assert not make_sweep(SEGMENTS, metric={"name": "val/t2v/MnR", "goal": "minimize"}).maximizes
    assert make_sweep(SEGMENTS, metric=None).metric is None


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"methode": "grid"}, "methode is nothing that W&B knows\n  -> did you mean method?"),
        ({"method": None}, "has no method"),
        ({"parameters": None}, "has no parameters"),
        ({"parameters": [1]}, "parameters must be a mapping"),
        ({"parameters": {"a": 3}}, "parameters.a is 3, which says nothing about its values"),
        (
            {"parameters": {"a": {"vlaues": [1]}}},
            "parameters.a.vlaues is nothing that W&B knows\n  -> did you mean value",
        ),
        ({"parameters": {"a": {"values": []}}}, "parameters.a.values is []"),
        ({"parameters": {"a": {"values": 3}}}, "parameters.a.values is 3"),
        ({"parameters": {"a": {"parameters": {"b": {"value": 1}}}}}, "write them with dots: a.NAME"),
        ({"parameters": {"a": {"min": 0.0, "max": 1.0}}}, "parameters.a is a distribution, but a grid needs values"),
        ({"parameters": {"a": {"min": 3, "max": 1}}}, "W&B would refuse it: a: min 3 is not less than max 1"),
        ({"parameters": {"run_dir": {"value": "x"}}}, "sets run_dir"),
        ({"method": "gird"}, "W&B would refuse it: 'gird' is not one of"),
        ({"method": "custom"}, "choose one of grid, random, bayes"),
        ({"method": "bayes", "metric": None}, "method bayes needs a metric"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1}, "metric": None}, "early_terminate needs a metric"),
        ({"metric": {"name": "val/t2v/R@1", "goal": "higher"}}, "W&B would refuse it: 'higher' is not one of"),
        ({"command": None}, "neither `centerclip train` nor"),
        ({"command": ["python", "train.py", "${args}"]}, "neither `centerclip train` nor"),
        ({"command": ["python", "train", "${args}"]}, "does not run centerclip"),
        ({"command": ["centerclip", "train"]}, "must have ${args} once"),
        ({"command": ["centerclip", "train", "${args_no_hyphens}"]}, "must have ${args} once"),
        ({"command": ["centerclip", "train", "--run_dir=x", "${args}"]}, "sets run_dir"),
    ],
)
def test_a_mistake_is_one_clear_error(write_sweep: Any, sections: dict[str, Any], says: str) -> None:
    file = write_sweep(**{"parameters": SEGMENTS, **sections})
    with pytest.raises(ConfigError) as error:
        read_sweep(file)
    assert says in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_what_is_no_sweep_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"s\.yaml"):
        read_sweep(tmp_path / "s.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_sweep(tmp_path / "absent.yaml")
