"""Runs without network and key are read back from W&B's own file."""

from __future__ import annotations

import csv
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning.pytorch.loggers import Logger
from PIL import Image
from wandb.proto import wandb_internal_pb2 as protocol

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.callbacks import ExampleTable, ResultsWriter, ThroughputLogger
from centerclip_pl.training.loggers import RunCSVLogger, RunWandbLogger, make_loggers

BLOCK = 32768


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: 7 bytes of header, then LevelDB's log format (crc, length, type; 32 KiB blocks)."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, whole = 7, b""
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # full, last
            record = protocol.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def history(run: list[Any]) -> dict[str, list[Any]]:
    """All logged values by key, in order."""
    found: dict[str, list[Any]] = {}
    for record in run:
        for item in record.history.item:
            found.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    return found


def only(paths: Iterator[Path]) -> Path:
    (path,) = paths
    return path


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_offline_run_can_be_read_back(
    tmp_path: Path, without_wandb_account: Path, tiny: Any, tiny_data: Any, make_trainer: Any, capfd: Any
) -> None:
    run_dir = tmp_path / "run"
    loggers = make_loggers(run_dir, "project", "name", {"clusters": 49, "api_key": "hush"})
    callbacks = [ThroughputLogger(), ResultsWriter(run_dir, repetitions=1), ExampleTable(queries=5, best=3)]
    trainer = make_trainer(loggers, *callbacks)
    trainer.fit(tiny, datamodule=tiny_data)
    trainer.test(tiny, datamodule=tiny_data, ckpt_path="best", verbose=False)
    wandb.finish()
    wandb.teardown()  # as at the end of a process; finish() may return a moment before the file is written

    said = [line for line in capfd.readouterr().err.splitlines() if "wandb" in line.lower() or "W&B" in line]
    assert len(said) == 1, said
    assert "no W&B key was found" in said[0]
    assert f"wandb sync {run_dir}/wandb/offline-run-*" in said[0]

    folder = only(run_dir.glob("wandb/offline-run-*"))
    run = list(records(only(folder.glob("*.wandb"))))
    started = only(record.run for record in run if record.WhichOneof("record_type") == "run")
    assert (started.project, started.display_name) == ("project", "name")
    logged = history(run)
    assert len(logged["train/loss"]) == 9  # three epochs of three batches
    assert logged["val/t2v/R@1"] == [10.0, 30.0, 20.0]
    assert logged["test/t2v/R@1"] == [25.0]
    assert all(speed > 0 for speed in logged["train/videos_per_second"])
    assert all(0 <= share <= 1 for share in logged["train/data_wait_share"])
    assert logged["cost/gmacs_per_video"][0] > 0
    assert logged["test/examples/_type"] == ["table-file"]
    assert logged["test/examples/nrows"] == [5]

    table = json.loads((folder / "files" / logged["test/examples/path"][0]).read_text())
    assert table["columns"] == ["query", "right video", "rank", "right", "top 1", "top 2", "top 3", "found"]
    assert table["data"][1][:3] == ["grey 30", "v3", "2"]
    assert table["data"][1][-1] == "v2, v3, v4"
    # The pictures wait in the run's folder for the upload, not in the user's home.
    staged = [Path(e.local_path) for r in run for e in r.artifact.manifest.contents if e.path.endswith(".png")]
    assert staged
    assert all(path.is_relative_to(run_dir) for path in staged)
    assert {Image.open(path).size for path in staged} == {(16, 16)}
    assert not list(without_wandb_account.rglob("staging"))
    # Nothing secret in any file.
    assert not [path for path in run_dir.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]

    last = [row for row in rows(run_dir) if row["test/t2v/R@1"]]
    assert [float(row["test/t2v/R@1"]) for row in last] == [25.0]
    assert len([row for row in rows(run_dir) if row["train/loss"]]) == 9
    assert not (run_dir / "hparams.yaml").exists()


def kinds(loggers: list[Logger]) -> list[type]:
    return [type(logger) for logger in loggers]


def test_wandb_mode_disabled_leaves_the_csv_alone(
    tmp_path: Path, without_wandb_account: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert kinds(make_loggers(tmp_path / "run", "p", "n")) == [RunCSVLogger]
    assert capfd.readouterr().err == ""


def test_wandb_mode_offline_is_respected_though_there_is_a_key(
    tmp_path: Path, without_wandb_account: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    loggers = make_loggers(tmp_path / "run", "p", "n")
    assert kinds(loggers) == [RunCSVLogger, RunWandbLogger]
    assert loggers[1]._wandb_init["mode"] == "offline"
    assert "WANDB_MODE is offline" in capfd.readouterr().err


@pytest.mark.parametrize("place", ["environment", "netrc"])
def test_a_key_means_online(
    tmp_path: Path, without_wandb_account: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    if place == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    else:
        netrc = without_wandb_account / "netrc"
        netrc.write_text(f"machine 127.0.0.1:9\n  login user\n  password {'0123456789' * 4}\n")
        netrc.chmod(0o600)
    logger = make_loggers(tmp_path / "run", "p", "n")[1]
    assert isinstance(logger, RunWandbLogger)
    assert logger._wandb_init["mode"] == "online"
    assert logger._wandb_init["resume"] == "allow"


def test_wandb_may_be_left_out(tmp_path: Path) -> None:
    assert kinds(make_loggers(tmp_path / "run", "p", "n", wandb=False)) == [RunCSVLogger]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [("WANDB_MODE", "sometimes", "WANDB_MODE='sometimes'"), ("WANDB_API_KEY", "tooshort", "key cannot be used")],
)
def test_wrong_settings_are_reported(
    tmp_path: Path,
    without_wandb_account: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=message) as error:
        make_loggers(tmp_path / "run", "p", "n")
    assert "tooshort" not in str(error.value)
    assert "WANDB_MODE" in str(error.value.next_step)


def test_asked_to_be_online_without_a_key_is_an_error(
    tmp_path: Path, without_wandb_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    logger = make_loggers(tmp_path / "run", "p", "n")[1]
    with pytest.raises(ConfigError, match="W&B cannot start the run"):
        logger.log_metrics({"train/loss": 1.0}, step=0)


def test_a_second_run_of_a_process_is_a_run_of_its_own(tmp_path: Path, without_wandb_account: Path) -> None:
    for number in (1, 2):
        make_loggers(tmp_path / f"run{number}", "p", "n")[1].log_metrics({"train/loss": float(number)}, step=0)
    wandb.finish()
    wandb.teardown()
    for number in (1, 2):
        file = only((tmp_path / f"run{number}").glob("wandb/offline-run-*/*.wandb"))
        assert history(list(records(file)))["train/loss"] == [number]


# metrics.csv --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    first = RunCSVLogger(tmp_path)
    for step in range(6):
        first.log_metrics({"train/loss": 10.0 - step}, step)
    first.log_metrics({"val/t2v/R@1": 12.0}, 5)
    first.finalize("failed")
    second = RunCSVLogger(tmp_path)
    second.begin_at(4)
    for step in (4, 5, 6):
        second.log_metrics({"train/loss": 20.0 - step, "train/new": 1.0}, step)
    second.finalize("success")
    assert [(row["step"], row["train/loss"], row["train/new"]) for row in rows(tmp_path)] == [
        ("0", "10.0", ""),
        ("1", "9.0", ""),
        ("2", "8.0", ""),
        ("3", "7.0", ""),
        ("4", "16.0", "1.0"),
        ("5", "15.0", "1.0"),
        ("6", "14.0", "1.0"),
    ]


def test_a_later_test_adds_its_row_and_drops_none(tmp_path: Path) -> None:
    first = RunCSVLogger(tmp_path)
    for step in range(3):
        first.log_metrics({"train/loss": 1.0}, step)
    first.finalize("success")
    later = RunCSVLogger(tmp_path)
    later.log_metrics({"test/t2v/R@1": 50.0}, 0)
    later.finalize("success")
    assert [row["train/loss"] for row in rows(tmp_path)] == ["1.0", "1.0", "1.0", ""]
    assert rows(tmp_path)[-1]["test/t2v/R@1"] == "50.0"


def test_a_row_that_was_cut_off_is_dropped_when_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,train/loss\n0,1.0\n1,0.")
    logger = RunCSVLogger(tmp_path)
    logger.begin_at(1)
    logger.log_metrics({"train/loss": 0.5}, 1)
    logger.finalize("success")
    assert [(row["step"], row["train/loss"]) for row in rows(tmp_path)] == [("0", "1.0"), ("1", "0.5")]


def test_rows_reach_the_disk_while_training(tmp_path: Path) -> None:
    logger = RunCSVLogger(tmp_path, flush_logs_every_n_steps=2)
    for step in range(4):
        logger.log_metrics({"train/loss": 1.0}, step)
    assert len(rows(tmp_path)) == 4  # without finalize: the process might have been killed
    assert sorted(os.listdir(tmp_path)) == ["metrics.csv"]
