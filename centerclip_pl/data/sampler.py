"""The order of training: the same in every run of one seed, whatever interrupts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data.distributed import DistributedSampler

from centerclip_pl.data.dataset import VideoCaptionDataset


class EpochSampler(DistributedSampler[Any]):
    """Shuffled ``(index, epoch)`` keys, this process's share of them.

    The order follows from seed and epoch alone, so a run that resumes at epoch 3 sees what an uninterrupted run saw.
    Lightning calls ``set_epoch`` before each epoch and, because this is a ``DistributedSampler``, puts no other in its
    place. What does not divide evenly among the processes is left out of the epoch.
    """

    def __init__(self, dataset: VideoCaptionDataset, num_replicas: int, rank: int, seed: int) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self.batches_done: Callable[[], int] = lambda: 0
        """Asked once, when a resumed run begins: how many batches of the epoch each process had trained on."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, self.epoch) for index in super().__iter__())


def seed_of_run(world_size: int) -> int:
    """That of ``seed_everything``; without it torch's own, or 0 where several processes must agree."""
    if "PL_GLOBAL_SEED" in os.environ:
        return int(os.environ["PL_GLOBAL_SEED"])
    return 0 if world_size > 1 else torch.initial_seed() % 2**32
