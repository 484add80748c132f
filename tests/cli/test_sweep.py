from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from centerclip_pl.cli import main
from centerclip_pl.cli.sweep import find_sweep
from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps import online

REPOSITORY = Path(__file__).parents[2]
COMMAND = ["${env}", "${interpreter}", "-m", "centerclip_pl", "train", "${args}"]
METRIC = {"name": "val/t2v/R@1", "goal": "maximize"}


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``sweep_file(parameters, **sections)`` writes one; the folder is the repository, W&B knows nobody."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("WANDB_MODE", "offline")

    def write(parameters: dict[str, Any], **sections: Any) -> str:
        content = {"program": "centerclip_pl", "command": COMMAND, "method": "grid", "metric": METRIC}
        file = tmp_path / "mine.yaml"
        file.write_text(
            yaml.safe_dump({**content, "parameters": {"dataset": {"value": "demo"}, **parameters}, **sections})
        )
        return str(file)

    return write


@pytest.mark.slow
@pytest.mark.soak
def test_a_sweep_runs_offline_and_the_next_call_has_nothing_left(
    sweep_file: Any, tiny_demo: Path, tiny_backbone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [f"--data.root={tiny_demo}", "--data.train=16", "--data.val=4", "--data.test=14", "--data.batch_size=4"]
    options += [f"--model.backbone={tiny_backbone}", "--trainer.max_epochs=1", "--data.num_workers=0"]
    file = sweep_file({"tokens.segments": {"values": [2, 4]}, "tokens.clusters": {"value": 6}})
    command = ["sweep", file, "--offline", "--jobs=2", f"--folder={tmp_path / 'runs'}", *options]
    main(command)
    out, _ = capfd.readouterr()
    assert "2 runs, 2 at a time" in out
    assert "2 runs finished" in out
    found = [json.loads((tmp_path / "runs" / name / "results.json").read_text()) for name in ("0000", "0001")]
    configs = [yaml.safe_load((tmp_path / "runs" / name / "config.yaml").read_text()) for name in ("0000", "0001")]
    assert [config["tokens"]["segments"] for config in configs] == [2, 4]
    assert found[0]["cost"]["gmacs_per_video"] != found[1]["cost"]["gmacs_per_video"]
    assert (tmp_path / "runs" / "0000" / "ranks.parquet").is_file()
    main(command)
    assert "2 runs are done already" in capfd.readouterr().out
    with pytest.raises(SystemExit) as status:
        main([*command, "--trainer.max_epochs=2"])
    assert status.value.code == 2
    assert "holds runs of another sweep: its command is" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "sections", "more", "says"),
    [
        ({"tokens.segmnets": {"values": [2]}}, {}, [], ["tokens.segmnets", "tokens.segments"]),
        ({"tokens.segments": {"values": [4, 3]}}, {}, [], ["(with tokens.segments=3)"]),
        ({"tokens.segments": {"values": [2, "x"]}}, {}, [], ["tokens.segments", "x"]),
        (
            {"method": {"values": ["kmedoids", "kmedoid"]}},
            {},
            [],
            ["there is no method 'kmedoid'", "did you mean kmedoids"],
        ),
        ({"dataset": {"value": "demon"}}, {}, [], ["there is no dataset 'demon'"]),
        ({"a": {"vlaues": [1]}}, {}, [], ["vlaues", "did you mean value"]),
        ({"seed_everything": {"values": [0]}}, {}, ["--trainer.max_epoch=1"], ["max_epoch", "max_epochs"]),
        ({"seed_everything": {"values": [0]}}, {}, ["--jobs=0"], ["--jobs is 0"]),
        ({"seed_everything": {"values": [0]}}, {}, ["--job=2"], ["there is no option --job", "did you mean --jobs?"]),
        ({"seed_everything": {"values": [0]}}, {}, ["--ofline"], ["did you mean --offline?"]),
        ({"seed_everything": {"values": [0]}}, {}, ["--online"], ["--offline and --online were both given"]),
        ({"seed_everything": {"min": 0, "max": 9}}, {"method": "random"}, [], ["never ends by itself", "--count"]),
    ],
)
def test_a_mistake_is_one_message_before_anything_runs(
    sweep_file: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    parameters: dict[str, Any],
    sections: dict[str, Any],
    more: list[str],
    says: list[str],
) -> None:
    with pytest.raises(SystemExit) as status:
        main(["sweep", sweep_file(parameters, **sections), "--offline", f"--folder={tmp_path / 'runs'}", *more])
    assert status.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert all(part in error for part in says), error
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_prints_the_commands(sweep_file: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = sweep_file({"tokens.segments": {"values": [2, 4]}})
    main(["sweep", file, "--dry_run", "--dataset=msrvtt", f"--folder={tmp_path / 'runs'}", "--trainer.max_epochs=1"])
    lines = capfd.readouterr().out.splitlines()
    assert [shlex.split(line) for line in lines[:2]] == [
        ["centerclip", "train", "--dataset=msrvtt", f"--tokens.segments={n}", "--trainer.max_epochs=1"] for n in (2, 4)
    ]
    assert lines[2:] == ["# 2 runs"]
    main(["sweep", file, "--dry_run", "--launcher=slurm", "--jobs=2", "--slurm", "time=60"])
    assert "#SBATCH --array=0-1%2" in capfd.readouterr().out
    main(["sweep", file, "--dry_run", "--launcher=slurm", "--count=20", "--jobs=3"])
    assert "#SBATCH --array=0-1%" in capfd.readouterr().out  # no more than the grid has
    bayes = sweep_file({"tokens.segments": {"values": [2, 4]}}, method="bayes")
    with pytest.raises(SystemExit):
        main(["sweep", bayes, "--dry_run", "--launcher=slurm", "--count=5"])
    assert "method bayes decides by the results of other runs" in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_name_is_looked_for_in_the_datasets_folder_first(tmp_path: Path) -> None:
    (tmp_path / "sweeps" / "demo").mkdir(parents=True)
    general, special = tmp_path / "sweeps" / "segments.yaml", tmp_path / "sweeps" / "demo" / "segments.yaml"
    general.touch()
    special.touch()
    (tmp_path / "sweeps" / "block.yaml").touch()
    assert find_sweep("segments", "demo", tmp_path) == special
    assert find_sweep("segments", "msrvtt", tmp_path) == general
    assert find_sweep("block", "demo", tmp_path) == tmp_path / "sweeps" / "block.yaml"
    assert find_sweep(str(special), None, tmp_path) == special
    with pytest.raises(ConfigError, match=r"did you mean segments\? sweeps here: block, segments"):
        find_sweep("segmets", "demo", tmp_path)
    with pytest.raises(ConfigError, match="there is no file"):
        find_sweep("absent.yaml", None, tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        find_sweep("segments", None, tmp_path / "absent")


def test_with_a_key_the_sweep_is_made_in_wandb_and_worked_on(
    sweep_file: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made: list[Any] = []
    monkeypatch.setattr("centerclip_pl.training.loggers.wandb_mode", lambda: ("online", ""))
    monkeypatch.setattr(online, "create", lambda *given: made.append(given) or "lab/clips/abc")
    monkeypatch.setattr(online, "work", lambda *given: made.append(given) or 0)
    file = sweep_file({"tokens.segments": {"values": [2, 4]}})
    main(["sweep", file, "--project=clips", "--entity=lab", "--dataset=msrvtt", "--count=7"])
    (sweep, project, entity), work = made
    assert sweep.config["parameters"]["dataset"] == {"value": "msrvtt"}
    assert (project, entity, work) == ("clips", "lab", ("lab/clips/abc", 7))
    assert "wandb agent lab/clips/abc" in capfd.readouterr().out
    main(["sweep", sweep_file({"tokens.segments": {"values": [2, 4]}}, project="of-the-file", entity="team")])
    assert made[2][1:] == ("of-the-file", "team")
    with pytest.raises(SystemExit):
        main(["sweep", file, "--jobs=2"])
    assert "--jobs has no meaning for a sweep in W&B" in capfd.readouterr().err
    monkeypatch.setattr(online, "work", lambda *given: 4)
    with pytest.raises(SystemExit) as status:
        main(["sweep", file])
    assert status.value.code == 4


def test_without_a_key_online_is_refused(
    sweep_file: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("centerclip_pl.training.loggers.wandb_mode", lambda: ("offline", "no W&B key was found"))
    with pytest.raises(SystemExit) as status:
        main(["sweep", sweep_file({"tokens.segments": {"values": [2, 4]}}), "--online"])
    assert status.value.code == 2
    assert "--online: no W&B key was found" in capfd.readouterr().err
