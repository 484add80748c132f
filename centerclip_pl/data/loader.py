"""A DataLoader whose errors name the file, and the sampler that makes training reproducible."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from centerclip_pl.cores import usable_cores
from centerclip_pl.data.dataset import Failure, VideoCaptionDataset
from centerclip_pl.errors import DataError, VideoError

_TIMED_OUT, _DIED = "DataLoader timed out", "DataLoader worker"  # how torch's messages begin
_POLL = 2.0  # seconds

_T = TypeVar("_T")


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
        self.skip = 0
        """Keys of this process to leave out at the beginning of the epoch."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, self.epoch) for index in islice(super().__iter__(), self.skip, None))


class VideoLoader(DataLoader[Any]):
    """A DataLoader over a :class:`VideoCaptionDataset`; see :func:`video_loader`.

    Takes the same arguments as ``DataLoader``, so that Lightning can build it again with another sampler.

    A run that resumes within an epoch goes on behind the last batch that was trained on: Lightning keeps the state of
    a loader that has :meth:`state_dict`, and gives it back where an epoch was not finished.
    """

    _resumes = False

    def state_dict(self) -> dict[str, Any]:
        """Empty: a loader knows what it handed out, not what became of it. How many batches were trained on, prefetched
        ones and the one that was interrupted not included, is in Lightning's own progress."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next epoch where the interrupted one ended (see :class:`EpochSampler`)."""
        self._resumes = True

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, where torch says its own iterator
        # Nothing of this runs before the first batch is asked for: Lightning asks for an iterator before it sets the
        # epoch and restores its progress.
        if isinstance(self.sampler, EpochSampler):
            assert self.batch_size is not None
            self.sampler.skip = self.sampler.batches_done() * self.batch_size if self._resumes else 0
            self._resumes = False
        batches = self._begin()
        while (batch := self._patiently(lambda: next(batches, None))) is not None:
            if isinstance(batch, Failure):
                raise batch.error
            yield batch

    def _begin(self) -> Iterator[Any]:
        """torch's iterator over a new epoch."""
        last: Any = self._iterator
        if last is None:
            return super().__iter__()
        # The processes live on, and torch has them finish what they were given in the last epoch, which may have been
        # left early (the sanity check, limit_train_batches). That takes as long as decoding does.
        get = last._get_data
        last._get_data = lambda: self._patiently(get)
        try:
            return super().__iter__()
        finally:
            del last._get_data

    def _patiently(self, get: Callable[[], _T]) -> _T:
        """Call what waits for a loader's process.

        torch looks after dead processes when its own timeout ends, which is therefore short and tried again.
        """
        deadline = time.monotonic() + self._videos.patience
        while True:
            try:
                return get()
            except RuntimeError as error:
                if _TIMED_OUT not in str(error) or time.monotonic() > deadline:
                    raise self._explained(error) from error

    @property
    def _videos(self) -> VideoCaptionDataset:
        assert isinstance(self.dataset, VideoCaptionDataset)
        return self.dataset

    def _explained(self, error: RuntimeError) -> Exception:
        """What torch says of a loader's process that hangs or dies, with the video and the next step."""
        text, dataset = str(error), self._videos
        if _TIMED_OUT not in text and _DIED not in text:
            return error
        busy = [] if dataset.busy is None else sorted({int(video) for video in dataset.busy if video >= 0})
        paths = [dataset.paths[video] for video in busy]
        if _TIMED_OUT in text:
            reason = f"no batch came within {dataset.patience:g} s, so its decoding hangs"
            advice = "re-encode or remove the file; where the disk is only slow, raise --data.loader_timeout"
        else:
            reason = f"the process that decodes it died ({text.splitlines()[0][:200]})"
            advice = (
                "if it was killed or got a bus error, memory or /dev/shm ran out: lower --data.batch_size or "
                "--data.num_workers; else re-encode or remove the file"
            )
        if len(paths) == 1:
            return VideoError(paths[0], reason, advice)
        names = "one of these files" if paths else "some file"
        return DataError(f"{names}: {reason}" + "".join(f"\n  {path}" for path in paths), advice)


def video_loader(
    dataset: VideoCaptionDataset,
    batch_size: int,
    *,
    num_workers: int,
    timeout: float,
    pin_memory: bool,
    sampler: EpochSampler | None = None,
) -> VideoLoader:
    """A loader of batches; with a sampler for training (full batches only), without one in order.

    Args:
        dataset: what to load.
        batch_size: videos a batch, in this process.
        num_workers: processes that decode; 0: this process decodes, and nothing can end a decoder that hangs.
        timeout: seconds to wait for a batch before giving up; without processes not used.
        pin_memory: whether to put batches in page-locked memory, for faster copies to a GPU.
        sampler: keys, for training.
    """
    dataset.patience = timeout
    dataset.busy = torch.full((num_workers,), -1, dtype=torch.int64).share_memory_() if num_workers else None
    return VideoLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=sampler is not None,
        collate_fn=dataset.collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        timeout=min(timeout, _POLL) if num_workers else 0,
        pin_memory=pin_memory,
    )


def default_workers(local_processes: int = 1) -> int:
    """Loader processes a training process: the processors it may use, shared fairly, less one; from 1 to 8.

    At least one, because only a decoder in a process of its own can be given a time limit.
    """
    available = usable_cores()
    return max(1, min(8, available // max(1, local_processes) - 1))


def seed_of_run(world_size: int) -> int:
    """That of ``seed_everything``; without it torch's own, or 0 where several processes must agree."""
    if "PL_GLOBAL_SEED" in os.environ:
        return int(os.environ["PL_GLOBAL_SEED"])
    return 0 if world_size > 1 else torch.initial_seed() % 2**32
