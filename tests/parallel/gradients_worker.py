"""One training step of every head and reducer on 1, 2 and 4 processes; what test_process_count.py compares.

``python gradients_worker.py FOLDER`` reads ``FOLDER/plan.json`` (for each number of processes ``[[case, dtype], ...]``)
and writes ``FOLDER/PROCESSES-RANK.pt``.

torch is imported once: the program forks into all processes, before any of them has started a thread.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.tokens import (
    KMedoids,
    Reducer,
    SegmentPooling,
    SparseSampling,
    Spectral,
    TemporalShift,
    TokenShift,
)
from centerclip_pl.training.bert_adam import BertAdam
from centerclip_pl.training.sharding import ShardedStrategy, shard
from centerclip_pl.types import Batch

VIDEOS, FRAMES = 8, 6
UNEVEN = {1: (8,), 2: (5, 3), 4: (3, 2, 2, 1)}
"""Videos of each process where the last batch of an epoch does not divide evenly."""


class Case(NamedTuple):
    head: str = "meanP"
    reducers: Callable[[], list[Reducer]] = list
    patch: str = "2d"
    options: dict[str, Any] = {}
    sharded: bool = False
    shares: dict[int, tuple[int, ...]] | None = None


HEADS = ("meanP", "seqLSTM", "seqTransf", "tightTransf")
REDUCERS: dict[str, Callable[[], list[Reducer]]] = {
    "none": list,
    "kmedoids": lambda: [KMedoids(1, 3, 7)],
    "kmedoids_mean": lambda: [KMedoids(1, 3, 7, aggregation="mean", cluster_embedding=True)],
    "spectral": lambda: [Spectral(1, 3, 7)],
    "sparse": lambda: [SparseSampling(1, 3, 7)],
    "pooling": lambda: [SegmentPooling(1, 3)],
    "temporal_shift": lambda: [TemporalShift()],
    "token_shift": lambda: [TokenShift()],
    "two_stages": lambda: [KMedoids(1, 3, 9), KMedoids(2, 1, 5)],
}

CASES = {f"{head}-{name}": Case(head, reducers) for head in HEADS for name, reducers in REDUCERS.items()}
CASES |= {f"{head}-3d": Case(head, REDUCERS["kmedoids"], "3d") for head in HEADS}
CASES |= {f"{head}-uneven": Case(head, REDUCERS["kmedoids"], shares=UNEVEN) for head in HEADS}
CASES |= {
    f"{head}-{name}-sharded": Case(head, REDUCERS[name], sharded=True)
    for head, name in (("meanP", "kmedoids_mean"), ("tightTransf", "kmedoids"))
}
CASES |= {"meanP-chunks-sharded": Case("meanP", REDUCERS["sparse"], options={"grad_cache": 2}, sharded=True)}
CASES |= {
    "meanP-recomputed": Case("meanP", REDUCERS["sparse"], options={"gradient_checkpointing": True}),
    "meanP-chunks": Case("meanP", REDUCERS["sparse"], options={"grad_cache": 1}),
    "tightTransf-chunks": Case("tightTransf", REDUCERS["sparse"], options={"grad_cache": 2}),
    "meanP-chunks-uneven": Case("meanP", REDUCERS["kmedoids"], options={"grad_cache": 2}, shares=UNEVEN),
}


class OneOfSome(TextVideoRetrieval):
    """Knows its rank without a trainer."""

    @property
    def global_rank(self) -> int:
        return dist.get_rank() if dist.is_initialized() else 0


class OnTheCPU(ShardedStrategy):
    """The strategy without a trainer: what sharding asks it for."""

    def __init__(self, world: int) -> None:
        super().__init__()
        self._device_mesh = init_device_mesh("cpu", (world, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu")


class Step(nn.Module):
    """A training step as a forward pass, which is what Lightning's DDP strategy makes of it."""

    def __init__(self, module: TextVideoRetrieval) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Batch) -> Tensor:
        return self.module.training_step(batch, 0)


def small_config() -> CLIPConfig:
    vision = {"hidden_size": 16, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8, "intermediate_size": 32}
    text = {"hidden_size": 24, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 24}
    return CLIPConfig(
        text_config=text | {"num_attention_heads": 2, "intermediate_size": 48, "bos_token_id": 98, "eos_token_id": 99},
        vision_config=vision | {"num_attention_heads": 2},
        projection_dim=24,
    )


def make_batch(videos: int = VIDEOS, seed: int = 0) -> Batch:
    """Noise, one caption a video; short clips and captions among them."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.arange(12)
    lengths = torch.randint(3, 13, (videos, 1), generator=generator)
    ids = torch.randint(0, 97, (videos, 12), generator=generator)
    ids[:, 0] = 98
    ids = torch.where(position == lengths - 1, 99, ids)
    real = torch.randint(1, FRAMES + 1, (videos, 1), generator=generator)
    return Batch(
        frames=torch.randint(0, 256, (videos, FRAMES, 3, 32, 32), generator=generator, dtype=torch.uint8),
        frame_mask=torch.arange(FRAMES) < real,
        video_ids=torch.arange(videos),
        input_ids=ids,
        attention_mask=(position < lengths).long(),
        text_ids=torch.arange(videos),
        video_of_text=torch.arange(videos),
    )


def make_module(case: Case, dtype: torch.dtype) -> TextVideoRetrieval:
    """The same weights in every process; of a spread at which every parameter matters."""
    torch.manual_seed(0)
    module = OneOfSome(
        small_config(),
        case.reducers(),
        head=cast(Any, case.head),
        patch=cast(Any, case.patch),
        num_frames=FRAMES,
        **case.options,
    )
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return module.to(dtype).train()


def share(batch: Batch, rank: int, sizes: tuple[int, ...]) -> Batch:
    """The rows of one process: a contiguous block of the global batch."""
    begin = sum(sizes[:rank])
    rows = slice(begin, begin + sizes[rank])
    return cast(Batch, {name: cast(Tensor, values)[rows] for name, values in batch.items()})


def step(case: Case, dtype: torch.dtype, rank: int, world: int) -> dict[str, Any]:
    module = make_module(case, dtype)
    sizes = (VIDEOS // world,) * world if case.shares is None else case.shares[world]
    run: nn.Module = Step(module)
    if world > 1 and case.sharded:
        shard(module, OnTheCPU(world))
    elif world > 1:
        run = DistributedDataParallel(run)
    torch.manual_seed(1)  # of what a step draws; every process has the same seed, as seed_everything gives it
    loss = run(share(make_batch(), rank, sizes))
    loss.backward()
    found = {
        "loss": loss.detach(),
        "gradients": {name: whole(p.grad) for name, p in module.named_parameters() if p.requires_grad},
        "parts": sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in module.parameters()),
    }
    if case.sharded:
        found |= optimize(module)
    return found


def optimize(module: TextVideoRetrieval) -> dict[str, Any]:
    """Clips the gradients and takes a step with each optimiser, small and large ones together and one by one."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    clipped = whole(nn.utils.clip_grad_norm_(trained, 0.1))
    assert clipped is not None
    for foreach in (False, True):
        # An eps in front of which gradients that are nothing but rounding vanish.
        torch.optim.AdamW(trained, lr=1e-2, eps=1e-3, foreach=foreach).step()
        BertAdam(trained, lr=1e-2, eps=1e-3, max_grad_norm=0.01, foreach=foreach).step()
    with torch.no_grad():
        module.logit_scale.clamp_(0.1, 4.6)
    return {"norm": clipped, "weights": {name: whole(p.detach()) for name, p in module.named_parameters()}}


def whole(tensor: Tensor | None) -> Tensor | None:
    """A copy, of all shards."""
    if tensor is None:
        return None
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def work(folder: str, plan: list[tuple[str, str]], rank: int, world: int) -> None:
    warnings.filterwarnings("ignore")
    if world > 1:
        dist.init_process_group(
            "gloo", f"file://{folder}/meet-{world}", timeout=timedelta(minutes=2), rank=rank, world_size=world
        )
    found = {f"{name}-{dtype}": step(CASES[name], getattr(torch, dtype), rank, world) for name, dtype in plan}
    torch.save(found, f"{folder}/{world}-{rank}.pt")
    if world > 1:
        dist.barrier()


def fork(tasks: list[Callable[[], None]]) -> int:
    """Runs each task in a process of its own; how many failed."""
    children = []
    for task in tasks:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                task()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)  # without tearing gloo's threads down, where torch 2.13 sometimes aborts at the end
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    torch.set_num_threads(1)
    where = str(Path(sys.argv[1]).resolve())
    failed = 0
    for processes, plan in json.loads(Path(where, "plan.json").read_text()).items():
        world = int(processes)
        failed += fork([partial(work, where, plan, rank, world) for rank in range(world)])
    sys.exit(failed)
