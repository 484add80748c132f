from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from centerclip_pl.training.bad_videos import COLUMNS, BadVideoTable


class Model(L.LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> None: ...
    def test_step(self, batch: Any, batch_idx: int) -> None: ...
    def predict_step(self, batch: Any, batch_idx: int) -> None: ...
    def configure_optimizers(self) -> None: ...


@pytest.mark.parametrize("bad", [True, False])
def test_number_and_list_go_to_the_loggers(
    tiny_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bool
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    if not bad:
        tiny_data.bad_videos = []
    tables: list[Any] = []
    monkeypatch.setattr(WandbLogger, "log_table", lambda self, key, columns, data: tables.append((key, columns, data)))
    loggers = [CSVLogger(tmp_path, name="csv", version=""), WandbLogger(save_dir=tmp_path, offline=True)]
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        logger=loggers,
        callbacks=[BadVideoTable()],
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Model(), tiny_data)
    trainer.test(Model(), tiny_data, verbose=False)
    import wandb

    wandb.finish()
    loggers[0].save()
    figures = (tmp_path / "csv/metrics.csv").read_text().splitlines()
    assert figures[0].split(",").count("data/bad_videos") == 1
    column = figures[0].split(",").index("data/bad_videos")
    assert {line.split(",")[column] for line in figures[1:]} == {"1" if bad else "0"}
    expected = [("data/bad_video_list", list(COLUMNS), [["v99", "test", "v99.mp4", "does not exist"]])]
    assert tables == (expected * 2 if bad else [])
    json.dumps(tables)


def test_a_prediction_says_what_it_lacks(
    tiny_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = type(tiny_data)
    monkeypatch.setattr(kind, "predict_dataloader", kind.test_dataloader)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[BadVideoTable()],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.predict(Model(), tiny_data)
    assert (
        "note: 1 videos could not be used and have no embeddings:\n  v99.mp4: does not exist" in capsys.readouterr().err
    )
    tiny_data.bad_videos = []
    trainer.predict(Model(), tiny_data)
    assert "note:" not in capsys.readouterr().err
