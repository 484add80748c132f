"""What each of two processes does in test_distributed.py; a program of its own, so that it can be spawned.

``python distributed_worker.py FOLDER`` reads ``FOLDER/inputs.pt`` and writes ``FOLDER/0.pt`` and ``FOLDER/1.pt``.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from centerclip_pl.errors import CenterCLIPError
from centerclip_pl.retrieval import RetrievalMetrics, cosine_logits, gather_with_grad, symmetric_cross_entropy
from centerclip_pl.types import VideoEmbedding

PROCESSES = 2


class Towers(nn.Module):
    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.text = nn.Parameter(weights["text"].clone())
        self.video = nn.Parameter(weights["video"].clone())
        self.logit_scale = nn.Parameter(weights["logit_scale"].clone())

    def forward(self, text: Tensor, video: Tensor, mask: Tensor) -> Tensor:
        texts = gather_with_grad(text @ self.text)
        videos = VideoEmbedding(gather_with_grad(video @ self.video), gather_with_grad(mask))
        return symmetric_cross_entropy(cosine_logits(texts, videos, self.logit_scale))


def gradients(rank: int, given: dict[str, Any]) -> dict[str, Any]:
    model = DistributedDataParallel(Towers(given["weights"]))
    loss = model(*(given[name].chunk(PROCESSES)[rank] for name in ("text", "video", "mask")))
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad for name, p in model.module.named_parameters()}}


def gathered(rank: int, given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: gather_with_grad(values[rank]) for name, values in given["fitting"].items()}
    for name, values in given["unequal"].items():
        try:
            gather_with_grad(values[rank])
        except CenterCLIPError as error:
            found[name] = str(error)
    return found


def metrics(rank: int, given: dict[str, Any]) -> dict[str, Any]:
    metric = RetrievalMetrics(chunk_size=given["chunk_size"])
    for batch in given["batches"][rank]:
        metric.update(**{**batch, "video": VideoEmbedding(*batch["video"])})
    figures = metric.compute()
    again = metric.compute()
    assert again == figures
    found = {
        "figures": figures,
        "ranks": tuple(metric.ranks()),
        "top": metric.top(3),
        "subset": metric.compute_subset(given["subset"]),
        "kept": sum(len(ids) for ids in metric.text_ids),
    }
    # And on: the states are this process's own again.
    metric.update(**{**given["more"][rank], "video": VideoEmbedding(*given["more"][rank]["video"])})
    found["more"] = metric.compute()
    metric.reset()
    metric.update(**{**given["more"][rank], "video": VideoEmbedding(*given["more"][rank]["video"])})
    try:
        metric.compute()
    except CenterCLIPError as error:
        found["error"] = str(error)
    return found


TASKS = {"gradients": gradients, "gathered": gathered, "metrics": metrics}


def run(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", timeout=timedelta(seconds=60), rank=rank, world_size=PROCESSES
    )
    inputs = torch.load(f"{folder}/inputs.pt")
    found = {name: TASKS[name.split("-")[0]](rank, given) for name, given in inputs.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    # Both are done, and leave without tearing gloo's threads down: torch 2.13 sometimes aborts there ("terminate called
    # without an active exception"), after all that is tested.
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    mp.spawn(run, (str(Path(sys.argv[1]).resolve()),), nprocs=PROCESSES)
