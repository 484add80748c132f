"""Which files an experiment's names stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from centerclip_pl.cli.experiment import compose
from centerclip_pl.errors import ConfigError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small experiments of two datasets, two methods and one backbone, seen from another working directory."""
    root = tmp_path / "repository" / "experiments"
    contents = {
        "datasets/birds": "experiment: {dataset: birds, method: plain, backbone: small}",
        "datasets/bees": "experiment: {dataset: bees, backbone: small}",
        "methods/plain": "model: {reduction: null}",
        "methods/clever": "model: {reduction: {class_path: X}}",
        "backbones/small": "model: {backbone: experiments/backbones/small}",
    }
    for name, text in contents.items():
        file = root / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return root


def names(words: list[str]) -> list[str]:
    return [Path(word).stem for word in words if word.endswith(".yaml")]


def test_the_dataset_names_its_defaults_and_what_is_given_comes_before_them(folder: Path) -> None:
    assert names(compose(folder, "birds", None, None)) == ["birds", "plain", "small"]
    assert names(compose(folder, "birds", "clever", None)) == ["birds", "clever", "small"]
    words = compose(folder, "birds", None, None)
    assert words == [
        w for n in ("datasets/birds", "methods/plain", "backbones/small") for w in ("--config", f"{folder / n}.yaml")
    ]


def test_a_backbone_in_the_repository_is_found_from_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "backbones/small").mkdir()
    assert compose(folder, "birds", None, None)[-1] == f"--model.backbone={folder / 'backbones/small'}"
    monkeypatch.chdir(folder.parent)
    assert compose(Path("experiments"), "birds", None, None)[-1] == "experiments/backbones/small.yaml"


@pytest.mark.parametrize(
    ("dataset", "method", "says"),
    [
        ("bird", None, "no dataset 'bird'.*did you mean birds.*bees, birds"),
        ("birds", "clver", "no method 'clver'.*did you mean clever"),
        ("bees", None, "names no default method.*--method=NAME"),
    ],
)
def test_names_that_are_not_there(folder: Path, dataset: str, method: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        compose(folder, dataset, method, None)


@pytest.mark.parametrize(("text", "says"), [("- a list", "must hold options"), ("a: [", "cannot be read")])
def test_files_that_are_no_options(folder: Path, text: str, says: str) -> None:
    file = folder / "datasets/birds.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"birds.yaml: {says}"):
        compose(folder, "birds", None, None)


def test_no_experiments_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--experiments=FOLDER"):
        compose(tmp_path / "experiments", "demo", None, None)


@pytest.mark.parametrize("dataset", sorted(file.stem for file in (EXPERIMENTS / "datasets").glob("*.yaml")))
def test_every_dataset_names_a_method_and_a_backbone(dataset: str) -> None:
    assert len(names(compose(EXPERIMENTS, dataset, None, None))) == 3
