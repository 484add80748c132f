"""Every file of experiments/sweeps: W&B takes it, our command line takes its values, and it says what it is for."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import sweeps
import yaml
from sweeps.config import SweepConfig
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from centerclip_pl.cli.check_words import check_words
from centerclip_pl.cli.experiment import fit_words
from centerclip_pl.errors import ConfigError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = sorted((EXPERIMENTS / "sweeps").rglob("*.yaml"))
MOST = 8  # combinations that are parsed one by one; of more, every value once, and all the last ones together

each_file = pytest.mark.parametrize(
    "file", FILES, ids=lambda file: str(file.relative_to(EXPERIMENTS / "sweeps").with_suffix(""))
)


def content(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def values(parameter: dict[str, Any]) -> list[Any]:
    """What a parameter may be; of a range, its ends."""
    if "values" in parameter:
        return parameter["values"]
    return [parameter["value"]] if "value" in parameter else [parameter["min"], parameter["max"]]


def combinations(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    lists = {name: values(one) for name, one in parameters.items()}
    every = [dict(zip(lists, one, strict=True)) for one in itertools.product(*lists.values())]
    if len(every) <= MOST:
        return every
    first = {name: some[0] for name, some in lists.items()}
    return [first, every[-1]] + [first | {name: value} for name, some in lists.items() for value in some[1:]]


def agent_words(combination: dict[str, Any]) -> list[str]:
    """What `wandb agent` puts in the place of ``${args}``."""
    words: list[str] = create_sweep_command_args({"args": {k: {"value": v} for k, v in combination.items()}})["args"]
    return words


def options(combination: dict[str, Any]) -> Any:
    return check_words(fit_words(["--experiments", str(EXPERIMENTS), *agent_words(combination)]))


def option(parsed: Any, name: str) -> Any:
    """An option of the run by the name that the command line has for it."""
    for key in (name, *(name.replace(part, f"{part}.init_args", 1) for part in ("data", "model.reduction"))):
        found = parsed.get(key)
        if found is not None:
            return found
    return None


@each_file
def test_wandb_takes_it(file: Path) -> None:
    config = content(file)
    assert sweeps.schema_violations_from_proposed_config(copy.deepcopy(config)) == []
    assert SweepConfig(copy.deepcopy(config))["method"] == config["method"]
    filled = _validate_config_and_fill_distribution(config)
    assert set(filled["parameters"]) == set(config["parameters"])
    assert config["command"] == ["${env}", "${interpreter}", "-m", "centerclip_pl", "train", "${args}"]
    assert config["metric"] == {"name": "val/t2v/R@1", "goal": "maximize"}


@each_file
def test_the_command_line_takes_every_combination_and_each_changes_the_run(file: Path) -> None:
    parameters = content(file)["parameters"]
    seen = []
    for combination in combinations(parameters):
        parsed = options(combination)
        seen.append((parsed.model.as_dict(), parsed.seed_everything, parsed.data.init_args.as_dict()))
        for name, value in combination.items():
            if name in ("dataset", "method", "backbone"):
                assert parsed.experiment[name] == value
                continue
            for key, wanted in value.items() if isinstance(value, dict) else [("", value)]:
                assert option(parsed, f"{name}.{key}".rstrip(".")) == wanted
    # No two runs are the same: a value without effect would waste one.
    assert all(one != other for one, other in itertools.combinations(seen, 2))


@each_file
def test_it_says_what_it_is_for(file: Path) -> None:
    header = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines()))
    assert len(header) > 100
    if file.stem.startswith("study-"):  # parts of a study, which one command runs together
        return
    folder = file.parent.name
    given = "" if folder == "sweeps" else f" DATASET={folder}"
    assert f"Command: make sweep SWEEP={file.stem}{given}\n" in header
    assert f"wandb sweep {file.relative_to(EXPERIMENTS.parent)}" in header
    runs = re.search(r"Runs: (\d+|as many as asked for)", header)
    assert runs is not None
    config = content(file)
    size = 1
    for parameter in config["parameters"].values():
        size *= len(values(parameter))
    assert (runs[1] == str(size)) == (config["method"] == "grid")
    assert "Hardware: " in header


def test_a_folder_is_that_of_its_dataset() -> None:
    names = {file.stem for file in (EXPERIMENTS / "datasets").glob("*.yaml")}
    for file in FILES:
        dataset = content(file)["parameters"]["dataset"]["value"]
        assert dataset in names
        assert file.parent.name in ("sweeps", dataset)


def test_the_sweeps_of_msrvtt_suit_the_other_datasets_of_twelve_frames() -> None:
    """`make sweep SWEEP=segments DATASET=lsmdc` puts another dataset into the same file."""
    parameters = content(EXPERIMENTS / "sweeps/segments.yaml")["parameters"]
    for dataset, segments in itertools.product(("msvd", "lsmdc", "didemo"), parameters["tokens.segments"]["values"]):
        most = max(parameters["tokens.clusters"]["values"])
        options({"dataset": dataset, "tokens.segments": segments, "tokens.clusters": most})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tokens.segmens", 4, "did you mean --tokens.segments"),
        ("seed_everythin", 4, "did you mean --seed_everything"),
        ("metod", "kmedoids", "did you mean --method"),
        ("model.reduction.metik", "cosine", "did you mean --model.reduction.metric"),
        ("model.reduction", {"metik": "cosine"}, "did you mean --model.reduction.metric"),
        ("model.reduction", {"metric": "cosin"}, "--model.reduction.metric=cosin: must be one of euclidean, cosine"),
        ("tokens.clusters", [16, 48], "--tokens.clusters=.*must be a whole number"),
    ],
)
def test_a_parameter_that_does_not_exist_gets_a_near_name(name: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        options({"dataset": "demo", name: value})


def test_null_of_a_sweep_is_null() -> None:
    assert agent_words({"data.fps": None}) == ["--data.fps=None"]
    assert options({"dataset": "demo", "data.fps": None}).data.init_args.fps is None
