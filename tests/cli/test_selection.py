"""``--select``: which weights are tested, on what they were chosen, and what does not go together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from centerclip_pl.cli import main

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
Train = Callable[..., dict[str, Any]]


@pytest.fixture
def train(tiny_data: Callable[[str], list[str]], tiny_backbone: Path, tmp_path: Path, monkeypatch: Any) -> Train:
    """``train(*words, dataset="demo", folder="run")`` trains two epochs of two steps; returns its results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def call(*words: str, dataset: str = "demo", folder: str = "run", data: list[str] | None = None) -> dict[str, Any]:
        shared = ["--dataset", dataset, "--experiments", str(EXPERIMENTS), f"--model.backbone={tiny_backbone}"]
        shared += tiny_data(dataset) if data is None else data
        shared += ["--data.batch_size=2", "--data.num_workers=0", "--trainer.enable_progress_bar=false"]
        shared += ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--trainer.limit_train_batches=2"]
        main(["train", *shared, f"--run_dir={folder}", *words])
        return json.loads((tmp_path / folder / "results.json").read_text())

    return call


def fails(train: Train, capsys: pytest.CaptureFixture[str], *words: str, **options: Any) -> str:
    with pytest.raises(SystemExit) as stopped:
        train(*words, **options)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def config(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_validation_chooses_unless_something_else_is_asked_for(
    train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    selection = train()["selection"]
    assert (selection["rule"], selection["selected_on"]) == ("best", "val")
    assert selection["chosen"].endswith("chosen on validation")
    assert "chosen on validation" in " ".join(capsys.readouterr().out.split())


def test_on_test_as_published(train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = train("--select=test", dataset="msrvtt")
    assert (results["selection"]["rule"], results["selection"]["selected_on"]) == ("best", "test")
    assert results["selection"]["chosen"].endswith("chosen on test, as published: optimistic")
    assert "chosen on test, as published: optimistic" in " ".join(capsys.readouterr().out.split())
    # Nothing is held out: 12 training videos, and the 4 of the test to validate on.
    assert {name: split["videos"] for name, split in results["counts"]["splits"].items()} == {
        **{"train": 12, "val": 4, "test": 4}
    }
    assert config(tmp_path / "run")["data"]["init_args"]["select_on_test"] is True
    # The older way says the same.
    again = train("--data.select_on_test=true", dataset="msrvtt", folder="again")
    assert again["selection"]["selected_on"] == "test"
    assert again["metrics"] == pytest.approx(results["metrics"])


def test_last_tests_the_weights_as_training_left_them(
    train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = train("--select=last")
    selection = results["selection"]
    last = tmp_path / "run/checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    assert (selection["rule"], selection["selected_on"], selection["monitor"]) == ("last", None, None)
    assert (selection["epoch"], selection["step"]) == (content["epoch"], content["global_step"]) == (1, 4)
    assert Path(selection["path"]) == last
    assert "as training left them, chosen by no metric" in " ".join(capsys.readouterr().out.split())
    assert "val/t2v/R@1" in (tmp_path / "run/metrics.csv").read_text()  # it is validated all the same
    assert results["counts"]["splits"]["val"]["videos"] == 4
    # A later process says the same of the file, and of the best one that it was chosen on validation.
    for name, rule in (("last", "last"), ("best", "best")):
        main(
            ["eval", "--experiments", str(EXPERIMENTS), f"--checkpoint=run/checkpoints/{name}.ckpt", "--run_dir=later"]
        )
        later = json.loads((tmp_path / "later/results.json").read_text())
        assert later["selection"]["rule"] == rule
        if rule == "last":
            assert later["metrics"] == pytest.approx(results["metrics"])
            assert (later["selection"]["epoch"], later["selection"]["step"]) == (1, 4)


def test_the_last_checkpoint_of_a_validated_run_is_not_called_its_choice(train: Train, tmp_path: Path) -> None:
    train()
    main(["eval", "--experiments", str(EXPERIMENTS), "--checkpoint=run/checkpoints/last.ckpt", "--run_dir=later"])
    assert json.loads((tmp_path / "later/results.json").read_text())["selection"]["rule"] in ("given", "best")


def test_a_resumed_run_keeps_its_rule(train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    train("--select=test", dataset="msrvtt")
    for other in ("--select=val", "--select=last"):
        message = fails(train, capsys, other, "--trainer.max_epochs=3", dataset="msrvtt")
        assert f"begun with select=test and cannot go on with {other[2:]}" in message
        assert "--run_dir" in message
    results = train("--trainer.max_epochs=3", dataset="msrvtt")
    assert results["selection"]["selected_on"] == "test"
    assert config(tmp_path / "run")["select"] == "test"
    train("--select=last", folder="second")
    message = fails(train, capsys, "--data.select_on_test=true", "--trainer.max_epochs=3", folder="second")
    assert "begun with select=last and cannot go on with select=test" in message
    assert train("--trainer.max_epochs=3", folder="second")["selection"]["rule"] == "last"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--select=val", "--data.select_on_test=true"], "select=val and data.select_on_test=true contradict"),
        (["--select=last", "--data.select_on_test=true"], "select=last and data.select_on_test=true contradict"),
        (["--select=test", "--data.select_on_test=false"], "select=test and data.select_on_test=false contradict"),
        (["--select=test", "--data.select_on_test", "False"], "select=test and data.select_on_test=false contradict"),
        (["--select=test", "--data.select_on_test=no"], "select=test and data.select_on_test=false contradict"),
        (["--trainer.limit_val_batches=0"], "limit_val_batches is 0.*\n.*--select=last"),
    ],
)
def test_contradictions_are_one_error_and_leave_nothing(
    train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], says: str
) -> None:
    message = fails(train, capsys, *words)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(message)
    assert not (tmp_path / "run").exists()


def test_without_validation_videos_only_last_works(
    train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_custom: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_custom.parent, folder)
    lines = tiny_custom.read_text().splitlines()
    (folder / "captions.csv").write_text("\n".join(line for line in lines if not line.endswith(",val")) + "\n")
    data = [f"--data.captions={folder / 'captions.csv'}", "--data.val_videos=0"]
    message = fails(train, capsys, dataset="custom", data=data)
    assert "no val split; it has train, test" in message
    assert "--data.val_videos=0.1" in message
    assert "--select=last" in message
    results = train("--select=last", dataset="custom", data=data)
    assert results["selection"]["rule"] == "last"
    assert {name: split["videos"] for name, split in results["counts"]["splits"].items()} == {"train": 6, "test": 2}
    assert {file.name for file in (tmp_path / "run/checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_select_is_for_training(train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["eval", "--experiments", str(EXPERIMENTS), "--select=last"])
    assert "--select has no effect on eval" in capsys.readouterr().err
