"""The order of training: the same in every run of one seed, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data.distributed import DistributedSampler

from centerclip_pl.data.dataset import VideoCaptionDataset


class EpochSampler(DistributedSampler[Any]):
    """Shuffled ``(index, epoch)`` keys, this process's share of them.

    The order follows from seed and epoch alone, so a run that resumes at epoch 3 sees what an uninterrupted run saw.
    And each process has one block of each global batch, so a global batch is the same list in the same order on any
    number of processes, where their batches together have the same size. What does not fill a global batch is left out
    of the epoch.

    Lightning calls ``set_epoch`` before each epoch and, because this is a ``DistributedSampler``, puts no other in its
    place.

    Args:
        dataset: what to draw from.
        num_replicas: processes.
        rank: of this one.
        seed: of the run.
        batch_size: of each process.
    """

    def __init__(
        self, dataset: VideoCaptionDataset, num_replicas: int, rank: int, seed: int, batch_size: int = 1
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self.batch_size = batch_size
        self.batches = len(dataset) // (num_replicas * batch_size)
        # What DistributedSampler itself says of its length.
        self.num_samples = self.batches * batch_size
        self.total_size = self.num_samples * num_replicas
        self.batches_done: Callable[[], int] = lambda: 0
        """Asked once, when a resumed run begins: how many batches of the epoch each process had trained on."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator)[: self.total_size]  # type: ignore[arg-type]
        mine = order.view(self.batches, self.num_replicas, self.batch_size)[:, self.rank].flatten().tolist()
        return ((index, self.epoch) for index in mine)
