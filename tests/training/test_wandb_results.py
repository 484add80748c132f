"""What W&B keeps of a test is read back from an offline run's own file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import wandb

from centerclip_pl.training.callbacks import ResultsWriter
from centerclip_pl.training.loggers import make_loggers
from centerclip_pl.training.ranks_file import read_ranks, write_ranks
from centerclip_pl.training.results import check_results, read_results

RANKS = pd.DataFrame({"direction": ["t2v"], "video_id": ["a"], "caption": ["a dog"], "rank": [1.0]})


@pytest.fixture(scope="module")
def reading() -> ModuleType:
    """The reader of .wandb files beside this file."""
    path = Path(__file__).with_name("test_loggers.py")
    spec = importlib.util.spec_from_file_location("reading_wandb_files", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("with_ranks", [True, False])
def test_an_offline_run_keeps_results_and_ranks(
    tmp_path: Path,
    without_wandb_account: Path,
    tiny: Any,
    tiny_data: Any,
    make_trainer: Any,
    reading: ModuleType,
    with_ranks: bool,
) -> None:
    run_dir = tmp_path / "run"
    if with_ranks:
        write_ranks(run_dir / "ranks.parquet", RANKS)
    trainer = make_trainer(make_loggers(run_dir, "project", "name"), ResultsWriter(run_dir, measure=False))
    trainer.test(tiny, datamodule=tiny_data, verbose=False)
    wandb.finish()
    wandb.teardown()

    folder = reading.only(run_dir.glob("wandb/offline-run-*"))
    records = list(reading.records(reading.only(folder.glob("*.wandb"))))
    kept = [json.loads(i.value_json) for r in records for i in r.summary.update if i.key == "results"]
    assert kept == [read_results(run_dir / "results.json")]
    assert check_results(kept[0], "W&B") == read_results(run_dir / "results.json")

    uploads = [file.path for record in records for file in record.files.files if file.path == "ranks.parquet"]
    copy = folder / "files" / "ranks.parquet"
    assert uploads == ["ranks.parquet"] * with_ranks
    assert copy.is_file() == with_ranks
    if with_ranks:
        assert not copy.is_symlink()  # a moved run folder can still be synced
        pd.testing.assert_frame_equal(read_ranks(copy), RANKS, check_dtype=False)
