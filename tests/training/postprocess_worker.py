"""What each of two processes does in test_postprocess.py: a test as Lightning's DDP runs it.

``python postprocess_worker.py FOLDER RANK PORT`` reads ``FOLDER/options.json`` and writes ``FOLDER/RANK.json``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy

from centerclip_pl.training.postprocess import PostProcessing


def the_test() -> Any:
    """The module of the test, with its model and its data."""
    spec = importlib.util.spec_from_file_location("the_test", Path(__file__).with_name("test_postprocess.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, rank: int, port: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, NODE_RANK="0", LOCAL_RANK=str(rank))
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    shared = the_test()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(timeout=timedelta(seconds=120)),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    found = []
    for options in json.loads((folder / "options.json").read_text()):
        processing = PostProcessing(**options, clips=shared.clips)
        trainer.callbacks = [processing]
        trainer.test(shared.make(), shared.Data(), verbose=False)
        ranks = {method: [table.t2v.tolist(), table.v2t.tolist()] for method, table in processing.ranks.items()}
        found.append({"figures": processing.figures, "parameters": processing.parameters, "ranks": ranks})
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    os._exit(0)  # without tearing gloo's threads down, where torch 2.13 sometimes aborts after all is done


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve(), int(sys.argv[2]), sys.argv[3])
