"""Post-processing from the command line: off by default, beside the plain figures where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from centerclip_pl.cli import main
from centerclip_pl.training.ranks_file import read_ranks

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
Run = Callable[..., Any]


@pytest.fixture
def run(tiny_demo: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(command, folder, *words)`` in ``tmp_path`` on the tiny demo; returns results.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    shared = ["--experiments", str(EXPERIMENTS), f"--data.root={tiny_demo}", f"--model.backbone={tiny_backbone}"]
    shared += ["--data.train=16", "--data.val=4", "--data.test=14", "--data.batch_size=8", "--data.num_workers=0"]
    shared += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]

    def command(name: str, folder: str, *words: str) -> Any:
        main([name, *shared, *words, f"--run_dir={folder}"])
        return json.loads((tmp_path / folder / "results.json").read_text())

    return command


def test_eval_with_and_without(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = run("eval", "plain")
    assert "transductive" not in capsys.readouterr().out
    both = run("eval", "both", "--postprocess.methods=[dual_softmax,qb_norm]", "--postprocess.bank_size=11")
    table = capsys.readouterr().out
    assert json.dumps(both["metrics"]) == json.dumps(plain["metrics"])
    assert both.keys() - plain.keys() == {"transductive", "transductive_parameters"}
    assert {name.partition("/")[0] for name in both["transductive"]["dual_softmax"]} == {"t2v", "v2t"}
    assert {name.partition("/")[0] for name in both["transductive"]["qb_norm"]} == {"t2v"}
    assert both["transductive_parameters"]["qb_norm"]["bank_texts"] == 11
    assert both["counts"]["splits"].keys() == {"test"}  # no training video was looked at
    rows = [line for line in table.splitlines() if "(transductive)" in line]
    assert [row.strip("│ ").partition(" (")[0] for row in rows] == [
        "text to video, dual softmax",
        "video to text, dual softmax",
        "text to video, QB-Norm",
    ]
    assert f"{both['transductive']['qb_norm']['t2v/MnR']:.1f}" in rows[2]
    before, after = (read_ranks(tmp_path / folder / "ranks.parquet") for folder in ("plain", "both"))
    assert after[before.columns].equals(before)
    assert set(after.columns) - set(before.columns) == {"rank_dual_softmax", "rank_qb_norm"}

    # The run's own config does it again; more may be asked for.
    videos = run("eval", "videos", "--config=both/config.yaml", "--postprocess.video_bank=true")
    assert videos["metrics"] == plain["metrics"]
    assert videos["transductive"]["dual_softmax"] == both["transductive"]["dual_softmax"]
    assert videos["transductive"]["qb_norm"].items() > both["transductive"]["qb_norm"].items()
    assert "v2t/R@1" in videos["transductive"]["qb_norm"]
    parameters = videos["transductive_parameters"]["qb_norm"]
    assert (parameters["bank_texts"], parameters["bank_videos"]) == (11, 11)
    assert parameters["seed"] == 0


def test_train_tests_with_it_and_its_config_says_so(run: Run, tmp_path: Path) -> None:
    results = run("train", "run", "--trainer.max_epochs=1", "--postprocess.methods=[dual_softmax]")
    assert results["transductive"].keys() == {"dual_softmax"}
    options = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert options["postprocess"] == {
        "methods": ["dual_softmax"],
        "temperature": 1.0,
        "beta": 20.0,
        "bank_size": None,
        "video_bank": False,
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("--postprocess.methods=[qbnorm]", "--postprocess.methods=qbnorm: must be one of dual_softmax, qb_norm"),
        ("--postprocess.temperature=0", "temperature is 0.0, but must be a positive number"),
        ("--postprocess.beta=much", "--postprocess.beta=much: must be a number"),
        ("--postprocess.bank_size=0", "bank_size is 0, but must be at least 1"),
    ],
)
def test_mistakes_get_one_message(
    run: Run, word: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("eval", "refused", word)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert f"error: {says}" in message
    assert "Traceback" not in message
    assert not (tmp_path / "refused").exists()
