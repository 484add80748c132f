"""``centerclip memory``: from the words of ``train`` or ``fit`` to figures, without videos, weights or a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.cli import main
from centerclip_pl.cli.check_words import check_words
from centerclip_pl.cli.experiment import fit_words
from centerclip_pl.cli.memory import training_of
from centerclip_pl.cli.memory_document import ROWS, VARIANTS, peak_of
from centerclip_pl.cli.memory_table import gigabytes
from centerclip_pl.errors import CheckpointError, ConfigError
from centerclip_pl.tokens import KMedoids
from centerclip_pl.training.memory import GPUS, Training, usable

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = f"--experiments={REPOSITORY / 'experiments'}"


def given(*words: str) -> tuple[Training, list[str]]:
    return training_of(check_words(fit_words([EXPERIMENTS, *words])))


def test_options_become_what_is_trained() -> None:
    training, notes = given(
        *("--dataset=activitynet", "--data.batch_size=16", "--trainer.devices=8", "--trainer.num_nodes=2"),
        *("--trainer.precision=bf16-mixed", "--model.gradient_checkpointing=true", "--model.grad_cache=4"),
        *("--trainer.accumulate_grad_batches=3", "--model.freeze_layers=2", "--model.optimizer.recipe=clip4clip"),
    )
    assert (training.batch_size, training.frames, training.words, training.processes) == (16, 60, 77, 16)
    assert (training.precision, training.accumulate, training.clip_norm) == ("bf16-mixed", 3, 1.0)
    module = training.model
    assert module["reduction"][0][0] is KMedoids
    assert module["reduction"][0][1]["segments"] == 15
    assert (module["gradient_checkpointing"], module["grad_cache"], module["freeze_layers"]) == (True, 4, 2)
    assert module["optimizer"].recipe == "clip4clip"
    assert training.clip.vision_config.patch_size == 32
    assert not notes


def test_what_depends_on_the_machine_is_said() -> None:
    training, notes = given("--dataset=msrvtt", "--method=baseline", "--trainer.strategy=ddp")
    assert training.processes == 1
    assert "--trainer.devices=auto" in notes[0]
    assert not training.bucket_view


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ("--model.backbone=nobody/nothing", CheckpointError, "give a folder with config.json"),
        ("--trainer.strategy=fsdp", ConfigError, "trainer.strategy=fsdp is not known"),
        ("--trainer.precision=transformer-engine", ConfigError, "precision=transformer-engine is not known"),
        ("--data.max_words=78", ConfigError, "max_words is 78"),
        ("--trainer.devices=2 --data.global_batch_size=7", ConfigError, "7 cannot be divided among 2 processes"),
    ],
)
def test_what_is_not_known_is_refused(words: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        given("--dataset=msrvtt", "--method=baseline", *words.split())


def test_parts_of_the_peak_as_json(
    tiny_backbone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the searches, which take many predictions."""
    monkeypatch.setattr("centerclip_pl.training.memory.largest_batches", lambda training: [])
    monkeypatch.setattr("centerclip_pl.training.memory.savings", lambda *_: [])
    words = [EXPERIMENTS, "--dataset=demo", "--method=baseline", f"--model.backbone={tiny_backbone}"]
    main(["memory", *words, "--data.global_batch_size=8", "--trainer.devices=2", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["peak"] == sum(found["parts"].values()) > 0
    assert (found["processes"], found["batch_size"]) == (2, 4)
    main(["memory", *words, "--data.batch_size=4", "--trainer.devices=2"])
    assert "predicted peak" in capsys.readouterr().out


@pytest.mark.soak
def test_a_small_model_is_predicted(tiny_backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [EXPERIMENTS, "--dataset=demo", "--method=baseline", f"--model.backbone={tiny_backbone}"]
    main(["memory", *words, "--data.batch_size=4", "--trainer.devices=2", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["peak"] == sum(found["parts"].values()) > 0
    assert found["processes"] == 2
    assert [fit["gpu_gigabytes"] for fit in found["fits"]] == list(GPUS)
    for fit in found["fits"]:
        assert fit["this_batch"]
        assert fit["peak"] <= usable(fit["gpu_gigabytes"])
        assert fit["largest_batch_size"] >= 4
    switches = {switch["options"]: switch for switch in found["switches"]}
    assert list(switches) == [entry["options"] for entry in sorted(found["switches"], key=lambda s: -s["saved"])]
    for name, switch in switches.items():
        assert switch["peak"] + switch["saved"] == found["peak"], name
    assert switches["--model.gradient_checkpointing=true"]["saved"] > 0
    assert "one more forward pass" in switches["--model.gradient_checkpointing=true"]["price"]
    assert any(name.startswith("--method=kmedoids") for name in switches)


def test_the_document_says_what_a_prediction_says() -> None:
    """The cheapest cells."""
    lines = (REPOSITORY / "docs/memory.md").read_text().splitlines()
    row = next(row for row in ROWS if row.method == "k-medoids, B6-4,49")
    cells = next([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if f"| {row.method} | 64" in line)
    for name in ("16-mixed", "32-true"):
        assert cells[5 + list(VARIANTS).index(name)] == gigabytes(peak_of(row, name))
    assert cells[4] == row.published
