"""What each of two processes does in test_module.py.

``python module_worker.py FOLDER RANK`` reads ``FOLDER/inputs.pt``, meets the other rank, and writes ``FOLDER/RANK.pt``.
"""

from __future__ import annotations

import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.tokens import KMedoids
from centerclip_pl.types import Batch

PROCESSES = 2


class Step(nn.Module):
    """A training step as a forward pass, which is what Lightning's DDP strategy makes of it."""

    def __init__(self, module: TextVideoRetrieval) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Batch) -> Tensor:
        return self.module.training_step(batch, 0)


def run(rank: int, folder: str) -> None:
    warnings.filterwarnings("ignore", ".*self.log.*")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", timeout=timedelta(minutes=5), rank=rank, world_size=PROCESSES
    )
    inputs = torch.load(f"{folder}/inputs.pt")
    config = CLIPConfig.from_dict(inputs["config"])
    module = TextVideoRetrieval(config, KMedoids(**inputs["reduction"]), num_frames=6).double()
    module.load_state_dict(inputs["weights"])
    share = {name: values.chunk(PROCESSES)[rank] for name, values in inputs["batch"].items()}
    parallel = DistributedDataParallel(Step(module))
    loss = parallel(share)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    found = {"loss": loss.detach(), "gradients": gradients, "videos": len(share["frames"])}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)  # without tearing gloo's threads down, where torch 2.13 sometimes aborts after all is done


if __name__ == "__main__":
    run(int(sys.argv[2]), str(Path(sys.argv[1]).resolve()))
