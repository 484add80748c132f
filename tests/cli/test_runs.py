"""What becomes of a run's folder: used again, gone on with, moved, tested with other options. In this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from centerclip_pl.cli import main
from centerclip_pl.cli.run_config import reusable

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
Run = Callable[..., None]


@pytest.fixture
def train(tiny_demo: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``train(*words)`` trains one epoch of 2 steps on the tiny demo, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    shared = ["--experiments", str(EXPERIMENTS), f"--data.root={tiny_demo}", f"--model.backbone={tiny_backbone}"]
    shared += ["--data.train=16", "--data.val=4", "--data.test=14", "--data.batch_size=8", "--data.num_workers=0"]
    shared += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    return lambda *words: main(["train", *shared, *words])


def config(folder: str | Path) -> dict:
    return yaml.safe_load((Path(folder) / "config.yaml").read_text())


def step(folder: str | Path) -> int:
    return torch.load(Path(folder) / "checkpoints/last.ckpt", weights_only=True)["global_step"]


def test_a_runs_config_makes_a_new_run_and_leaves_the_old_one(train: Run, tmp_path: Path) -> None:
    train("--run_dir=first")
    before = {file: file.read_bytes() for file in (tmp_path / "first/checkpoints").iterdir()}
    reduction = config("first")["model"]["reduction"]["init_args"]
    assert reduction["segments"] == "${tokens.segments}"
    main(["fit", "--config=first/config.yaml", "--tokens.clusters=7"])
    (second,) = (tmp_path / "runs/demo/kmedoids_demo").iterdir()
    assert {file.name for file in (second / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert step(second) == 2
    assert {file: file.read_bytes() for file in before} == before
    plan = torch.load(second / "checkpoints/last.ckpt", weights_only=True)["centerclip"]
    assert plan["reduction"][0]["options"]["clusters"] == 7


def test_a_moved_run_goes_on_in_its_new_place(train: Run, tmp_path: Path) -> None:
    train("--run_dir=here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    train("--run_dir=there", "--trainer.max_epochs=2")
    assert step("there") == 4
    results = json.loads((tmp_path / "there/results.json").read_text())
    assert Path(results["selection"]["path"]) == tmp_path / "there/checkpoints/best.ckpt"
    assert not (tmp_path / "here").exists()


def test_a_training_does_not_go_on_with_another_method(
    train: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--run_dir=run")
    before = (tmp_path / "run/config.yaml").read_text()
    with pytest.raises(SystemExit) as stopped:
        train("--run_dir=run", "--method", "baseline", "--trainer.max_epochs=2")
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "reduction KMedoids(after_block=2" in message
    assert "now none" in message
    assert (tmp_path / "run/config.yaml").read_text() == before
    assert step("run") == 2


def test_eval_takes_the_runs_own_options_and_says_what_differs(
    train: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--run_dir=run", "--tokens.segments=2", "--tokens.clusters=9")
    words = ["eval", "--experiments", str(EXPERIMENTS), "--checkpoint=run/checkpoints/best.ckpt"]
    words += ["--trainer.enable_progress_bar=false"]
    capsys.readouterr()
    main([*words, "--run_dir=same"])
    assert "note:" not in capsys.readouterr().err
    assert config("same")["tokens"]["clusters"] == 9
    trained, tested = (json.loads((tmp_path / run / "results.json").read_text()) for run in ("run", "same"))
    assert tested["metrics"] == pytest.approx(trained["metrics"])
    main([*words, "--run_dir=other", "--method", "baseline"])
    assert "was trained with reduction KMedoids(after_block=2, segments=2, clusters=9" in capsys.readouterr().err
    assert config("other")["model"]["reduction"] is None
    assert config("other")["data"]["init_args"]["train"] == 16  # the dataset is still the run's


def test_a_test_of_some_batches_is_marked(train: Run, tmp_path: Path) -> None:
    train("--run_dir=run", "--data.eval_batch_size=2", "--trainer.limit_test_batches=2")
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["protocol"] == "demo-14 (partial)"


@pytest.mark.parametrize("option", ["--trainer.logger=false", "--wandb.enabled=false"])
def test_loggers_may_be_switched_off(train: Run, tmp_path: Path, option: str) -> None:
    train("--run_dir=run", option)
    assert (tmp_path / "run/results.json").is_file()


def test_mistakes_leave_no_empty_folder(train: Run, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train("--tokens.clusters=500")
    assert not (tmp_path / "runs").exists()


def test_reusable_refers_to_tokens_only_where_they_agree() -> None:
    options = {
        "run_dir": "a",
        "ckpt_path": "b",
        "trainer": {"default_root_dir": "a", "max_epochs": 3},
        "checkpoint": {"dirpath": "a/checkpoints"},
        "tokens": {"after_block": 2, "segments": 4, "clusters": None},
        "model": {"reduction": [{"class_path": "X", "init_args": {"after_block": 2, "segments": 2, "clusters": 5}}]},
    }
    found = reusable(options)
    assert found["model"]["reduction"][0]["init_args"] == {
        "after_block": "${tokens.after_block}",
        "segments": 2,
        "clusters": 5,
    }
    assert found["run_dir"] is found["ckpt_path"] is found["trainer"]["default_root_dir"] is None
    assert found["trainer"]["max_epochs"] == 3
