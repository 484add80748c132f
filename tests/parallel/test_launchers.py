"""A training on several processes is that of one, however they are started."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Launch = Callable[..., Any]

# In double precision: Adam makes steps of one size out of gradients that are nothing but rounding, of which attention
# has some.
EXACT = ["--trainer.precision=64-true"]
# ... and where that is not to be had, an eps in front of which they vanish.
ROUNDED = ["--model.optimizer.eps=0.01", "--model.optimizer.learning_rate=0.001"]
ON_TWO = ["--data.batch_size=2", "--data.eval_batch_size=3"]


def only_run(folder: Path) -> Path:
    """The run's folder, which the processes have agreed upon without being told."""
    found = [path.parent for path in folder.glob("runs/*/*/*/checkpoints")]
    assert len(found) == 1, found
    return found[0]


def run_and_read(launch: Launch, launcher: str, folder: Path, words: list[str]) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    done = launch(launcher, folder, "fit", *words)
    assert set(done.statuses) == {0}, done.output
    run = only_run(folder)
    rows = (run / "metrics.csv").read_text().splitlines()
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return {
        "step": checkpoint["global_step"],
        "weights": checkpoint["state_dict"],
        "optimizer": checkpoint["optimizer_states"][0]["state"],
        "metrics": validations(rows),
        "name": run.name,
    }


def validations(rows: list[str]) -> list[dict[str, str]]:
    names = rows[0].split(",")
    values = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
    return [{k: v for k, v in row.items() if k.startswith("val/")} for row in values if row["val/t2v/R@1"]]


def compare(found: dict[str, Any], alone: dict[str, Any], tolerance: float, *, floor: float = 1e-9) -> None:
    """Weights by their norms, those below `floor` by that."""
    assert found["step"] == alone["step"] == 8
    assert found["metrics"] == alone["metrics"]
    assert len(found["metrics"]) == 2
    assert list(found["weights"]) == list(alone["weights"])
    for name, expected in alone["weights"].items():
        size = expected.double().norm().clamp(min=floor)
        difference = (found["weights"][name] - expected).double().norm() / size
        assert difference < tolerance, f"{name} differs by {difference:.1e}"
    assert list(found["optimizer"]) == list(alone["optimizer"])
    for number, state in alone["optimizer"].items():
        assert found["optimizer"][number]["step"] == state["step"]
        assert found["optimizer"][number]["exp_avg"].shape == state["exp_avg"].shape


@pytest.fixture(scope="module")
def alone(launch: Launch, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    return run_and_read(launch, "alone", folder, [*words, *EXACT, "--data.batch_size=4"])


@pytest.mark.slow
@pytest.mark.soak
def test_two_processes_that_lightning_starts(
    launch: Launch, words: list[str], alone: dict[str, Any], tmp_path: Path
) -> None:
    found = run_and_read(launch, "lightning", tmp_path, [*words, *EXACT, *ON_TWO, "--trainer.strategy=ddp"])
    compare(found, alone, 1e-7)


@pytest.mark.soak
@pytest.mark.parametrize("launcher", ["torchrun", "two nodes", "slurm"])
def test_two_processes_that_others_start(
    launch: Launch, words: list[str], alone: dict[str, Any], tmp_path: Path, launcher: str
) -> None:
    found = run_and_read(launch, launcher, tmp_path, [*words, *EXACT, *ON_TWO, "--trainer.strategy=ddp"])
    compare(found, alone, 1e-7)
    assert found["name"].startswith("slurm-4711" if launcher == "slurm" else "20")


@pytest.mark.soak
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_sharded_training(launch: Launch, words: list[str], tmp_path: Path, launcher: str) -> None:
    """FSDP2 on two processes is one process; and each goes on with what the other has begun."""
    sharded = [*words, *ROUNDED, *ON_TWO, "--trainer.strategy=fsdp"]
    whole = [*words, *ROUNDED, "--data.batch_size=4"]
    alone = run_and_read(launch, "alone", tmp_path / "alone", whole)
    compare(run_and_read(launch, launcher, tmp_path / "sharded", sharded), alone, 5e-3, floor=1e-2)  # as DDP in float32
    for name, (first, begin), (second, end) in (
        ("begun sharded", (launcher, sharded), ("alone", whole)),
        ("ended sharded", ("alone", whole), (launcher, sharded)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        half = launch(first, folder, "fit", *begin, "--run_dir=runs/a/b/c", "--trainer.max_steps=4")
        assert set(half.statuses) == {0}, half.output
        found = run_and_read(launch, second, folder, [*end, "--run_dir=runs/a/b/c"])
        assert found["step"] == 8
        assert set(found["optimizer"]) == set(alone["optimizer"])


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_train_and_test_in_one_command(launch: Launch, words: list[str], tmp_path: Path, strategy: str) -> None:
    """Evaluation (with what process 0 does alone, such as measuring the cost) on two processes as on one."""
    experiments = next(word for word in words if "datasets/demo.yaml" in word).split("=")[1].split("/datasets")[0]
    options = [*(word for word in words if not word.startswith("--config")), *ROUNDED]
    metrics = []
    for launcher, more in (
        ("alone", ["--data.batch_size=4"]),
        ("lightning", [*ON_TWO, f"--trainer.strategy={strategy}"]),
    ):
        folder = tmp_path / launcher
        folder.mkdir()
        begin = ["train", "--dataset=demo", "--method=kmedoids", "--backbone=demo", f"--experiments={experiments}"]
        done = launch(launcher, folder, *begin, *options, *more)
        assert set(done.statuses) == {0}, done.output
        results = json.loads((only_run(folder) / "results.json").read_text())
        assert results["counts"]["videos"] == 14
        assert results["cost"]["gmacs_per_video"] > 0
        metrics.append(results["metrics"])
    assert metrics[0] == metrics[1]
