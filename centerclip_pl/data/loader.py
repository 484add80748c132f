"""A DataLoader whose errors name the file, and that outlives decoders which hang or crash."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import DataLoader, get_worker_info

from centerclip_pl.cores import usable_cores
from centerclip_pl.data.dataset import Failure, Loaded, Lost, VideoCaptionDataset
from centerclip_pl.data.sampler import EpochSampler
from centerclip_pl.errors import DataError, VideoError

# How torch's messages begin; that of an error which a process met ("Caught ...") is neither.
_TIMED_OUT, _DIED = "DataLoader timed out", "DataLoader worker (pid"
_REVIVALS = 2  # of processes that were killed, in an epoch
_ROUNDS = 10  # of new processes without a batch between them; so many are no accident of single files
_POLL = 2.0  # seconds
# How a decoder dies of a file; SIGKILL and SIGBUS are how it dies of too little memory.
_EXIT_PATIENCE = 5.0  # seconds
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)

_T = TypeVar("_T")


class _Batches:
    """The keys of each batch, from some batch on.

    Args:
        sampler: the loader's batch sampler; in prediction that is a wrapper of Lightning's own.
    """

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.skip = 0

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[list[Any]]:
        return islice(iter(self._sampler), self.skip, None)


class _CulpritsError(Exception):
    """Processes that read videos hang, or one crashed, on these videos."""

    def __init__(self, lost: list[Lost]) -> None:
        super().__init__(lost)
        self.lost = lost


class _KilledError(Exception):
    """A process that reads videos was killed from outside, as the kernel does it where memory runs out."""

    def __init__(self, explained: Exception) -> None:
        super().__init__(str(explained))
        self.explained = explained


class VideoLoader(DataLoader[Any]):
    """A DataLoader over a :class:`VideoCaptionDataset`; see :func:`video_loader`.

    Takes the same arguments as ``DataLoader``, so that Lightning can build it again with another sampler.

    A run that resumes within an epoch goes on behind the last batch that was trained on: Lightning keeps the state of
    a loader that has :meth:`state_dict`, and gives it back where an epoch was not finished.

    Where the dataset does not raise for bad videos, a decoder that hangs or crashes is no reason to end: its process
    is killed, the video counts as lost, and new processes go on with the batch that was being waited for. Where that
    happens again and again without a batch in between, it is no longer the files, and an error ends the run.

    A process that was killed (SIGKILL, nearly always by the kernel for lack of memory) is replaced whatever the dataset
    does with bad videos, twice an epoch and with a warning: the same batches come in the same order, and nothing else
    of the run changes either.
    """

    _resumes = False
    _batches: _Batches | None = None

    @property
    def _index_sampler(self) -> _Batches:  # what torch's iterators take their keys from
        if self._batches is None:
            assert self.batch_sampler is not None
            self._batches = _Batches(self.batch_sampler)
        return self._batches

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
        done = 0
        if isinstance(self.sampler, EpochSampler):
            done = self.sampler.batches_done() if self._resumes else 0
            self._resumes = False
        lost: list[Lost] = []
        culprits: list[list[Lost]] = []  # of each round since the last batch
        anything = done > 0
        revivals, begun = 0, count()
        while True:
            try:
                batches = self._begin(done, again=next(begun) > 0)
                while (loaded := self._patiently(lambda: next(batches, None))) is not None:  # noqa: B023  # called at once
                    if isinstance(loaded, Failure):
                        raise loaded.error
                    done += 1
                    lost += loaded.lost
                    self._videos.lost.update(loaded.lost)
                    if loaded.batch is not None:
                        anything = True
                        culprits = []
                        yield loaded.batch
                break
            except _CulpritsError as error:
                culprits.append(error.lost)
                self._videos.lost.update(error.lost)
                self._end_processes()
                if len(culprits) == _ROUNDS:
                    raise self._videos.nothing_left([entry for found in culprits for entry in found]) from error
            except _KilledError as error:
                if revivals == _REVIVALS:
                    raise error.explained from error
                revivals += 1
                print(
                    "warning: a process that reads videos was killed, most likely because memory ran out; new ones go "
                    f"on with the same batches (time {revivals} of at most {_REVIVALS} in an epoch)\n"
                    "  -> if it happens again, lower --data.num_workers or --data.batch_size",
                    file=sys.stderr,
                    flush=True,
                )
                self._end_processes(at_once=True)
        if lost and not anything:
            raise self._videos.nothing_left(lost)

    def _begin(self, skip: int, again: bool = False) -> Iterator[Any]:
        """torch's iterator over a new epoch, from this batch on.

        Args:
            skip: batches to leave out.
            again: in place of one that has begun this epoch; then what torch draws for it does not change what the
                model will draw.
        """
        if again:
            with torch.random.fork_rng(devices=[]):
                return self._started(skip)
        return self._started(skip)

    def _started(self, skip: int) -> Iterator[Any]:
        last: Any = self._iterator
        self._index_sampler.skip = skip
        try:
            if last is None:
                if self.num_workers:
                    # Pictures that other code left to the garbage collector may hold threads of FFmpeg's; a forked
                    # process that collected them would wait for these for ever, having none of them.
                    gc.collect()
                begun = super().__iter__()
                if self.num_workers:
                    _leave_dead_processes_to_the_wait(begun)
                return begun
            # The processes live on, and torch has them finish what they were given in the last epoch, which may have
            # been left early (the sanity check, limit_train_batches). That takes as long as decoding does.
            get = last._get_data
            last._get_data = lambda: self._patiently(get)
            try:
                return super().__iter__()
            finally:
                del last._get_data
        finally:
            self._index_sampler.skip = 0

    def _end_processes(self, at_once: bool = False) -> None:
        """Kill the processes; the next epoch, or the rest of this one, gets new ones.

        Args:
            at_once: all of them, whatever they do: one that was killed may hold a lock that the others wait for.
        """
        last: Any = self._iterator
        self._iterator = None
        busy = self._videos.busy
        assert busy is not None
        for process, video in zip(last._workers, busy[:, 0].tolist(), strict=True):
            if at_once or int(video) in self._videos.lost:
                process.kill()  # it is decoding, and so holds no lock of a queue; nobody need wait for it
        last._shutdown_workers()  # waits some seconds for each of the others, then terminates it
        for process in last._workers:
            process.kill()
        busy[:, 0] = -1

    def _patiently(self, get: Callable[[], _T]) -> _T:
        """Call what waits for a loader's process.

        torch looks after dead processes when its own timeout ends, which is therefore short and tried again.
        """
        deadline = time.monotonic() + self._videos.patience
        while True:
            try:
                return get()
            except RuntimeError as error:
                if str(error).startswith(_TIMED_OUT) and time.monotonic() <= deadline:
                    continue
                self._blame(error)
                if self._was_killed():
                    raise _KilledError(self._explained(error)) from error
                raise self._explained(error) from error
            except (EOFError, OSError) as error:  # a batch, or the half of one, whose process is no more
                if self._was_killed(soon=True):
                    raise _KilledError(self._explained(RuntimeError(f"{_DIED}: killed)"))) from error
                raise

    def _was_killed(self, soon: bool = False) -> bool:
        """`soon`: its connections are closed, which the kernel does a moment before there is an exit status."""
        last: Any = self._iterator
        deadline = time.monotonic() + (_EXIT_PATIENCE if soon else 0.0)
        while last is not None:
            if any(process.exitcode == -signal.SIGKILL for process in last._workers):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return False

    def _blame(self, error: RuntimeError) -> None:
        """
        Raises:
            _CulpritsError: the dataset does not raise for bad videos, and this is about some.
        """
        dataset, last = self._videos, cast("Any", self._iterator)
        if dataset.on_bad_video == "error" or dataset.busy is None or last is None:
            return
        busy = [(int(video), since) for video, since in dataset.busy.tolist()]
        if str(error).startswith(_TIMED_OUT):
            now = time.monotonic()
            ages = sorted(((now - since, video) for video, since in busy if video >= 0), reverse=True)
            # The one that has been at it for longest, and who has been at it for as long as one may wait. Had none been
            # at it for long, it were the disk that is slow.
            hang = [video for age, video in ages if age >= dataset.patience]
            hang = hang or [video for age, video in ages[:1] if age >= dataset.patience / 2]
            if hang:
                reason = f"was not decoded within {dataset.patience:g} s, and its process was killed"
                raise _CulpritsError([Lost(video, reason) for video in dict.fromkeys(hang)]) from error
        for process, (video, _) in zip(last._workers, busy, strict=True):
            if video >= 0 and process.exitcode is not None and -process.exitcode in _CRASHES:
                name = signal.Signals(-process.exitcode).name
                raise _CulpritsError([Lost(video, f"crashes the decoder ({name})")]) from error

    @property
    def _videos(self) -> VideoCaptionDataset:
        assert isinstance(self.dataset, VideoCaptionDataset)
        return self.dataset

    def _explained(self, error: RuntimeError) -> Exception:
        """What torch says of a loader's process that hangs or dies, with the video and the next step."""
        text, dataset = str(error), self._videos
        if not text.startswith((_TIMED_OUT, _DIED)):
            return error
        busy = [] if dataset.busy is None else sorted({int(video) for video in dataset.busy[:, 0] if video >= 0})
        paths = [dataset.reader.names[video] for video in busy]
        if text.startswith(_TIMED_OUT):
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


class _Shared:
    """The dataset's ``collate``, with the batch put into shared memory where an error about that can be reported.

    Otherwise torch does so in a thread whose errors go nowhere, and the batch would be waited for in vain.
    """

    def __init__(self, dataset: VideoCaptionDataset) -> None:
        self._dataset = dataset

    def __call__(self, items: Sequence[Any]) -> Loaded | Failure:
        loaded = self._dataset.collate(items)
        if get_worker_info() is None or isinstance(loaded, Failure) or loaded.batch is None:
            return loaded
        try:
            for value in loaded.batch.values():
                if isinstance(value, torch.Tensor):
                    value.share_memory_()
        except RuntimeError as error:
            if "shared memory" not in str(error) and "shm" not in str(error):
                raise
            reason = str(error).splitlines()[0].rpartition(": ")[2][:200]
            return Failure(
                DataError(
                    f"a batch cannot be handed over in shared memory: {reason}",
                    "make /dev/shm larger (docker: --shm-size=8g), allow more open files (ulimit -n 4096), or lower "
                    "--data.num_workers or --data.batch_size",
                )
            )
        return loaded


def _leave_dead_processes_to_the_wait(iterator: Any) -> None:
    """Keep torch's handler of SIGCHLD from raising about this iterator's processes wherever the training happens to be.

    The wait for a batch looks after them, every few seconds, and there the error has a meaning.
    """
    if getattr(iterator, "_worker_pids_set", False):
        torch._C._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False


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
    dataset.busy = torch.full((num_workers, 2), -1, dtype=torch.float64).share_memory_() if num_workers else None
    return VideoLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=sampler is not None,
        collate_fn=_Shared(dataset),
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
