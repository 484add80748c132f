"""What each of two processes does in test_distributed_loading.py: a training and a test as Lightning's DDP runs them.

``python distributed_worker.py FOLDER RANK`` reads ``FOLDER/options.json`` and writes ``FOLDER/RANK.json``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy

from centerclip_pl.data import Custom
from centerclip_pl.data import frames as frames_module
from centerclip_pl.data import loader as loader_module
from centerclip_pl.data import splits as splits_module
from centerclip_pl.retrieval import gather_with_grad
from centerclip_pl.training.bad_videos import BadVideoTable


class Seen(L.LightningModule):
    """Notes what comes. A step needs the other process, as a loss over the global batch does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.videos: dict[str, list[list[int]]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        frames = gather_with_grad(batch["frames"])
        assert len(batch["frames"]) < len(frames) <= 4
        self._note("train", batch)
        return self.weight * 1.0

    def validation_step(self, batch: Any, index: int) -> None:
        self._note("val", batch)

    def test_step(self, batch: Any, index: int) -> None:
        self._note("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def _note(self, stage: str, batch: Any) -> None:
        if not self.trainer.sanity_checking:
            self.videos[stage].append(batch["video_ids"].tolist())


class Break(L.Callback):
    """Spoils files once all processes have checked them."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            for file in self.files:
                file.write_text("no longer a video")
        trainer.strategy.barrier()


def run(folder: Path, rank: int) -> None:
    options = json.loads((folder / "options.json").read_text())
    root = Path(options["data"]["captions"]).parent
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=options["port"], NODE_RANK="0", LOCAL_RANK=str(rank))
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    L.seed_everything(1, verbose=False)
    read_frames, find_bad_videos = frames_module.read_frames, splits_module.find_bad_videos

    def hang_on_some(path: str, *args: Any, **more: Any) -> torch.Tensor:
        if Path(path).name in options["hang"]:
            time.sleep(600)
        return read_frames(path, *args, **more)

    def find_more(tables: Any, *args: Any) -> list[Any]:
        more = [
            {"video_id": video_id, "path": path, "reason": "does not exist", "split": split}
            for split, table in tables.items()
            for video_id, path in table.drop_duplicates("video_id")[["video_id", "path"]].itertuples(index=False)
            if video_id in options["absent"][rank]
        ]
        return [*find_bad_videos(tables, *args), *more]

    frames_module.read_frames = hang_on_some
    splits_module.find_bad_videos = find_more
    loader_module._POLL = 0.2
    data, model = Custom(**options["data"]), Seen()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(timeout=timedelta(seconds=120)),
        max_epochs=2,
        num_sanity_val_steps=1,
        callbacks=[Break([root / name for name in options["break"]]), BadVideoTable()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    found = {"videos": model.videos, "bad": data.bad_videos, "counts": data.counts(), "steps": trainer.global_step}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    os._exit(0)  # without tearing gloo's threads down, where torch 2.13 sometimes aborts after all is done


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
