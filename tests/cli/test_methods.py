"""Methods by name beyond one training: zero-shot, heads with reducers, going on, evaluating, stages, mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from centerclip_pl import load_checkpoint
from centerclip_pl.cli import main

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = REPOSITORY / "experiments"
METHODS = sorted(file.stem for file in (EXPERIMENTS / "methods").glob("*.yaml"))
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_demo: Path, tiny_backbone: Path) -> Run:
    """``run("train", "kmedoids", "--option=...", folder="run")`` on the tiny demo; returns its results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def call(command: str, method: str | None, *options: str, folder: str = "run") -> dict[str, Any]:
        words = [command, "--experiments", str(EXPERIMENTS)]
        words += ["--dataset", "demo"] if "--checkpoint" not in options else []
        words += ["--method", method] if method else []
        words += [f"--data.root={tiny_demo}", "--data.train=16", "--data.val=4", "--data.test=14"]
        words += [f"--model.backbone={tiny_backbone}", "--data.batch_size=4", "--data.num_workers=0"]
        words += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", f"--run_dir={tmp_path / folder}"]
        words += ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2"] if command == "train" else []
        main([*words, *options])
        return json.loads((tmp_path / folder / "results.json").read_text())

    return call


@pytest.mark.parametrize("method", METHODS)
def test_the_backbone_as_it_is(run: Run, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = run("eval", method)
    assert results["selection"]["rule"] == "zero-shot"
    assert 0 <= results["metrics"]["test/t2v/R@1"] <= 100
    untrained = method in ("seqLSTM", "tightTransf")
    assert (f"note: the head {method} starts from random weights" in capsys.readouterr().err) == untrained
    if method in ("kmedoids", "spectral", "sparse", "pooling"):
        plain = run("eval", "baseline", folder="plain")
        assert results["cost"]["gmacs_per_video"] < plain["cost"]["gmacs_per_video"]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("tightTransf", []),
        ("seqLSTM", []),
        ("patch3d", []),
        ("token_shift", []),
        ("spectral", ["--model.head=seqTransf", "--model.reduction.graph=knn"]),
        ("kmedoids", ["--model.reduction.cluster_embedding=true", "--model.optimizer.recipe=clip4clip"]),
        ("sparse", ["--model.freeze_layers=1", "--model.patch=3d", "--model.gradient_checkpointing=true"]),
    ],
)
def test_a_checkpoint_brings_its_method_along(run: Run, tmp_path: Path, method: str, options: list[str]) -> None:
    trained = run("train", method, *options)
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    again = run("eval", None, "--checkpoint", str(checkpoint), folder="again")
    assert again["metrics"] == pytest.approx(trained["metrics"])
    model, config = load_checkpoint(checkpoint), yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())
    assert model.head == config["model"]["head"]
    assert model.patch == config["model"]["patch"]
    if options:
        assert len(model.reducers) == 1


def test_going_on_needs_the_same_recipe(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("train", "seqLSTM")
    for option, says in (
        ("--model.optimizer.recipe=clip4clip", "optimizer.recipe centerclip, now clip4clip"),
        ("--model.freeze_layers=1", "freeze_layers None, now 1"),
        ("--model.head=meanP", "does not fit the model"),
    ):
        with pytest.raises(SystemExit):
            run("train", "seqLSTM", option, "--trainer.max_epochs=2")
        assert says in capsys.readouterr().err


def test_several_stages(run: Run, tmp_path: Path) -> None:
    stages = [
        {"class_path": "centerclip_pl.tokens.KMedoids", "init_args": {"after_block": b, "segments": s, "clusters": 20}}
        for b, s in ((2, 4), (4, 2))
    ]
    file = tmp_path / "stages.yaml"
    file.write_text(yaml.safe_dump({"model": {"reduction": stages}}))
    results = run("train", "baseline", f"--config={file}")
    assert results["cost"]["clustering_ms_per_video"] > 0
    model = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert [(r.after_block, r.segments) for r in model.reducers] == [(2, 4), (4, 2)]  # type: ignore[union-attr]
    assert len(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["reduction"]) == 2


@pytest.mark.parametrize(
    ("method", "option", "says"),
    [
        ("kmedoid", "", "did you mean kmedoids?"),
        ("baseline", "--model.head=seqTrans", "seqTransf"),
        ("baseline", "--model.optimizer.recipe=clip", "clip4clip"),
        ("baseline", "--model.freeze_layers=40", "freeze_layers is 40"),
        ("baseline", "--model.patch=4d", "3d"),
        ("spectral", "--tokens.segments=3", "8 frames cannot be divided into 3"),
        ("spectral", "--tokens.clusters=1000", "clusters is 1000"),
        ("sparse", "--tokens.after_block=70", "after_block is 70"),
        ("spectral", "--model.reduction.sigma=0", "sigma is 0"),
        ("pooling", "--model.reduction.clusters=9", "clusters is 9"),
    ],
)
def test_mistakes_get_one_message(
    run: Run, capsys: pytest.CaptureFixture[str], method: str, option: str, says: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run("train", method, *([option] if option else []))
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert "Traceback" not in printed
