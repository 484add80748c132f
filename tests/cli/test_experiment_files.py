"""Every file below experiments/ is loaded by the command line itself and trained and tested for two steps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from centerclip_pl.cli import main

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = REPOSITORY / "experiments"


def names(part: str) -> list[str]:
    return sorted(file.stem for file in (EXPERIMENTS / part).glob("*.yaml"))


def cases() -> list[tuple[str, str | None, str | None]]:
    """Each dataset with its defaults, each method on the demo, each backbone on MSR-VTT."""
    found: list[tuple[str, str | None, str | None]] = [(dataset, None, None) for dataset in names("datasets")]
    found += [("demo", method, None) for method in names("methods")]
    found += [("msrvtt", None, backbone) for backbone in names("backbones")]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("dataset", "method", "backbone"), cases())
def test_every_combination_trains_and_tests(
    dataset: str,
    method: str | None,
    backbone: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tiny_data: Callable[[str], list[str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    words = ["train", "--dataset", dataset, "--experiments", str(EXPERIMENTS)]
    words += ["--method", method] if method else []
    words += ["--backbone", backbone] if backbone else []
    words += [
        *tiny_data(dataset),
        f"--model.backbone={request.getfixturevalue('tiny_backbone')}",
        "--data.batch_size=4",
        "--data.num_workers=0",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
        f"--run_dir={tmp_path / 'run'}",
    ]
    main(words)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    named = yaml.safe_load((EXPERIMENTS / "datasets" / f"{dataset}.yaml").read_text())["experiment"]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert results["dataset"] == dataset
    assert config["experiment"] == {
        "dataset": dataset,
        "method": method or named["method"],
        "backbone": backbone or named["backbone"],
    }
    plain = {"baseline", "seqLSTM", "seqTransf", "tightTransf", "patch3d"}
    assert (config["model"]["reduction"] is None) == ((method or named["method"]) in plain)
    directions = itertools.product(("t2v", "v2t"), ("R@1", "R@5", "R@10", "MdR", "MnR"))
    assert {f"test/{way}/{figure}" for way, figure in directions} <= set(results["metrics"])
    assert results["selection"]["rule"] == "best"
    assert (results["cost"]["clustering_ms_per_video"] > 0) == (config["model"]["reduction"] is not None)


WRITTEN = sorted(file for file in EXPERIMENTS.rglob("*.yaml") if "studies" not in file.parts)  # those are of runs


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_says_what_it_is_for(file: Path) -> None:
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert header
    assert isinstance(yaml.safe_load(file.read_text()), dict)
    if file.parent.name == "datasets":
        text = " ".join(header)
        assert "Command: make train" in text
        assert "Expected" in text
        assert "Hardware" in text
