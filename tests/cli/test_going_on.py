"""Which folder a training goes on in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

from centerclip_pl.cli import main
from centerclip_pl.cli.going_on import hold, keep_seed, let_go, unfinished_run
from centerclip_pl.errors import ConfigError
from centerclip_pl.launch import is_first_process
from centerclip_pl.training.run_lock import RunLock

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def options(rate: float = 0.1) -> dict[str, Any]:
    return {
        "run_dir": None,
        "ckpt_path": None,
        "weights_only": True,
        "trainer": {"default_root_dir": None, "max_epochs": 2},
        "checkpoint": {"dirpath": None},
        "model": {"reduction": None, "rate": rate},
        "resume": {"every_minutes": 10.0},
    }


def run(folder: Path, checkpoint: str | None = "last.ckpt", results: bool = False, config: Any = None) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config if config is not None else options()))
    if checkpoint is not None:
        (folder / "checkpoints" / checkpoint).touch()
    if results:
        (folder / "results.json").touch()
    return folder


def asked(**changes: Any) -> dict[str, Any]:
    """As the command line has them."""
    return options() | {"weights_only": None, "resume": {"every_minutes": 3.0}} | changes


def test_the_newest_unfinished_run_of_the_same_options(tmp_path: Path) -> None:
    assert unfinished_run(tmp_path / "absent", asked()) is None
    run(tmp_path / "20260101-000001")
    expected = run(tmp_path / "20260101-000002", "previous.ckpt")
    run(tmp_path / "20260101-000003", results=True)
    run(tmp_path / "20260101-000004", checkpoint=None)
    run(tmp_path / "20260101-000005", config=options(rate=0.2))
    run(tmp_path / "20260101-000006", config=["no options"])
    (run(tmp_path / "20260101-000007") / "config.yaml").write_bytes(b"\xff{")
    (tmp_path / "a file").touch()
    assert unfinished_run(tmp_path, asked()) == expected
    assert sorted(os.listdir(expected)) == ["checkpoints", "config.yaml"]


def test_not_one_that_is_worked_on(tmp_path: Path) -> None:
    older, newer = run(tmp_path / "1"), run(tmp_path / "2")
    with RunLock(newer):
        assert unfinished_run(tmp_path, asked()) == older
    assert unfinished_run(tmp_path, asked()) == newer


def test_a_folder_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    hold(tmp_path)
    try:
        with pytest.raises(ConfigError, match="is in use by another run: process"):
            hold(tmp_path)
    finally:
        let_go()
    hold(tmp_path)
    let_go()
    assert os.listdir(tmp_path) == []


def test_nothing_is_mended_where_another_run_writes(
    tmp_path: Path, tiny_backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    for name in ("last.ckpt", "previous.ckpt", ".last.ckpt.1.part"):  # as far as that run has written them
        (checkpoints / name).write_bytes(b"PK")
    words = ["train", f"--experiments={EXPERIMENTS}", "--dataset=demo", f"--model.backbone={tiny_backbone}"]
    with RunLock(tmp_path), pytest.raises(SystemExit) as ended:
        main([*words, f"--run_dir={tmp_path}", "--wandb.enabled=false"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "is in use by another run" in said
    assert "note:" not in said
    assert sorted(os.listdir(checkpoints)) == [".last.ckpt.1.part", "last.ckpt", "previous.ckpt"]


def test_a_seed_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr("centerclip_pl.cli.going_on.seed_everything", lambda seed, workers: set_to.append(seed))
    for seed in (7, False):
        keep_seed(Namespace(seed_everything=seed), 7)
    keep_seed(Namespace(seed_everything=3), None)  # an older checkpoint
    assert set_to == []
    keep_seed(Namespace(seed_everything=True), 7)  # Lightning has drawn one
    assert set_to == [7]
    with pytest.raises(ConfigError, match="seed_everything is 3, but this run began with 7"):
        keep_seed(Namespace(seed_everything=3), 7)


@pytest.mark.parametrize(
    ("variables", "first", "of_machine"),
    [
        ({}, True, True),
        ({"LOCAL_RANK": "1"}, False, False),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False, True),
        ({"NODE_RANK": "1"}, False, True),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True, True),
        ({"SLURM_PROCID": "3", "SLURM_LOCALID": "0"}, False, True),
    ],
)
def test_the_first_process(
    variables: dict[str, str], first: bool, of_machine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_LOCALID", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first
    assert is_first_process(of_machine=True) == of_machine
