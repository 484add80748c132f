"""Captions and files to items, items to :class:`~centerclip_pl.types.Batch`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from centerclip_pl.data.captions import video_list
from centerclip_pl.data.frames import FrameReader, Sampling, read_clip
from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.errors import CenterCLIPError, DataError, VideoError
from centerclip_pl.types import Batch
from centerclip_pl.video.sampling import FrameOrder

Captions = Literal["random", "all"]
OnBadVideo = Literal["error", "drop", "resample"]
Key = int | tuple[int, int]
"""An index, or an index and the epoch."""

_TRIES = 10  # videos drawn in place of one; so many failures in a row are no accident of single files


class Item(NamedTuple):
    """One video with some of its captions."""

    frames: Tensor
    """uint8 ``[T, 3, H, W]``."""
    frame_mask: Tensor
    """bool ``[T]``."""
    video: int
    text_ids: list[int]


class Lost(NamedTuple):
    """A video that could not be read."""

    video: int
    """Row of the split's list of videos."""
    reason: str


class Failure(NamedTuple):
    """An error on its way from a loader's process to the main one, which raises it.

    torch would rebuild the exception from one string of text, which loses its file and its next step.
    """

    error: CenterCLIPError


class Loaded(NamedTuple):
    """What a loader's process hands over: a batch, and what was to be in it but could not be read."""

    batch: Batch | None
    """None where nothing of it could be read, in evaluation."""
    lost: list[Lost]


class _Wanted(NamedTuple):
    video: int
    text_ids: list[int]
    rng: np.random.Generator


class VideoCaptionDataset(Dataset[Item]):
    """Videos with captions, decoded on demand.

    For evaluation (``training=False``) an item is a video with all its captions. For training an item is a video with
    one caption; there are as many items as videos (``captions="random"``: another caption each epoch) or as captions
    (``captions="all"``; a batch may then hold a video twice).

    Random choices depend on ``seed``, the epoch and the index, where the key is ``(index, epoch)`` as
    :class:`~centerclip_pl.data.loader.EpochSampler` gives it: the same in every run, for any number of loader
    processes, and in a run that resumes. With a bare index they come from torch's global generator in training, and
    from ``seed`` and the index in evaluation.

    Args:
        table: a caption table (see :mod:`~centerclip_pl.data.captions`); its index is the text id.
        tokenizer: for :meth:`collate`.
        reader: gives the frames; its rows are the videos of the table in the order of first appearance.
        num_frames: T, frames a video; shorter videos are filled up with their last frame.
        training: which of the two.
        sampling: which frames, see :func:`~centerclip_pl.data.frames.read_clip`.
        order: their order.
        captions: for training, see above.
        seed: of random choices.
        on_bad_video: when a video cannot be read: raise (``"error"``), leave it out of its batch (``"drop"``), or, in
            training, take another one that is drawn at random (``"resample"``; in evaluation as ``"drop"``). A training
            batch of which nothing is left gets one that is drawn at random in either case.
        lost: videos, by row, that need not be tried, and why.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tokenizer: CaptionTokenizer,
        reader: FrameReader,
        *,
        num_frames: int,
        training: bool = False,
        sampling: Sampling = "uniform",
        order: FrameOrder = "forward",
        captions: Captions = "random",
        seed: int = 0,
        on_bad_video: OnBadVideo = "error",
        lost: dict[int, str] | None = None,
    ) -> None:
        rows = {video_id: row for row, video_id in enumerate(video_list(table)["video_id"])}
        self._video_of_text = [rows[video_id] for video_id in table["video_id"]]
        self._texts_of_video: list[list[int]] = [[] for _ in rows]
        for text, video in enumerate(self._video_of_text):
            self._texts_of_video[video].append(text)
        self._captions: list[str] = table["caption"].tolist()
        self.tokenizer = tokenizer
        self.reader = reader
        self.num_frames = num_frames
        self.training = training
        self.sampling = sampling
        self.order = order
        self.captions = captions
        self.seed = seed
        self.on_bad_video = on_bad_video
        self.lost: dict[int, str] = {} if lost is None else lost
        """Videos that could not be read so far, and why. The loader adds to it, in the main process."""
        # What may take another's place does not depend on what this process happens to know by then.
        self._substitutes = [index for index in range(len(self)) if self._video(index) not in self.lost]
        self.busy: Tensor | None = None
        """float64 ``[workers, 2]`` in shared memory, set by the loader: the video that each process is reading, or -1,
        and since when (``time.monotonic()``)."""
        self.patience = float("inf")
        """Seconds that the loader waits for a batch, set by the loader."""

    def __len__(self) -> int:
        return len(self._captions) if self.training and self.captions == "all" else len(self._texts_of_video)

    def __getitem__(self, key: Key) -> Item:
        """Read one item.

        Raises:
            VideoError: the file has vanished or cannot be decoded.
        """
        return self._read(self._wanted(key))

    def __getitems__(self, keys: Sequence[Key]) -> list[Item | Lost] | list[Failure]:
        """What a DataLoader calls for a batch: an error the user can mend becomes an item."""
        resample = self.training and self.on_bad_video == "resample"
        try:
            entries = [entry for key in keys for entry in self._tries(key, resample)]
            if self.training and not any(isinstance(entry, Item) for entry in entries):
                entries += self._tries(keys[0], resample=True)  # an epoch keeps its number of batches
            return entries
        except CenterCLIPError as error:
            return [Failure(error)]

    def collate(self, items: Sequence[Item | Lost | Failure]) -> Loaded | Failure:
        """Items to a batch; captions are encoded here, in the loader's process."""
        good: list[Item] = []
        lost: list[Lost] = []
        for item in items:
            if isinstance(item, Failure):
                return item
            if isinstance(item, Lost):
                lost.append(item)
            else:
                good.append(item)
        if not good:
            return Loaded(None, lost)
        text_ids = [text for item in good for text in item.text_ids]
        try:
            input_ids, attention_mask = self.tokenizer([self._captions[text] for text in text_ids])
        except CenterCLIPError as error:
            return Failure(error)
        batch = Batch(
            frames=torch.stack([item.frames for item in good]),
            frame_mask=torch.stack([item.frame_mask for item in good]),
            video_ids=torch.tensor([item.video for item in good], dtype=torch.int64),
            input_ids=input_ids,
            attention_mask=attention_mask,
            text_ids=torch.tensor(text_ids, dtype=torch.int64),
            video_of_text=torch.tensor([self._video_of_text[text] for text in text_ids], dtype=torch.int64),
        )
        return Loaded(batch, lost)

    def _video(self, index: int) -> int:
        return self._video_of_text[index] if self.training and self.captions == "all" else index

    def _tries(self, key: Key, resample: bool) -> Iterator[Item | Lost]:
        """The item; or, where the policy is not to raise, those that could not be read and perhaps another one."""
        lost: list[Lost] = []
        for number in range(_TRIES if resample and self._substitutes else 1):
            wanted = self._wanted(key, number)
            if wanted.video in self.lost:
                lost.append(Lost(wanted.video, self.lost[wanted.video]))
                continue
            try:
                yield self._read(wanted)
                break
            except VideoError as error:
                if self.on_bad_video == "error":
                    raise
                lost.append(Lost(wanted.video, error.reason))
        else:
            if resample:
                raise self.nothing_left(lost)
        yield from lost

    def nothing_left(self, lost: Sequence[Lost]) -> DataError:
        """The error where all of these could not be read, and nothing else is there."""
        return DataError(
            "\n".join(
                [
                    f"none of {len(lost)} videos in a row can be read:",
                    *(f"  {self.reader.names[video]}: {reason}" for video, reason in lost[:3]),
                ]
            ),
            "so many at once are not single bad files: see whether the disk or share they are on is still there",
        )

    def _wanted(self, key: Key, number: int = 0) -> _Wanted:
        """The video of a key, and what of it; with a number above 0 the video that takes its place."""
        index, epoch = (key, 0) if isinstance(key, int) else key
        if not self.training:
            return _Wanted(index, self._texts_of_video[index], np.random.default_rng([self.seed, index]))
        if isinstance(key, int):
            rng = np.random.default_rng(int(torch.randint(2**62, ())))
        else:
            rng = np.random.default_rng([self.seed, epoch, index, *([number] if number else [])])
        if number:
            index = self._substitutes[int(rng.integers(len(self._substitutes)))]
        if self.captions == "all":
            return _Wanted(self._video(index), [index], rng)
        texts = self._texts_of_video[index]
        return _Wanted(index, [texts[int(rng.integers(len(texts)))]], rng)

    def _read(self, wanted: _Wanted) -> Item:
        self._note(wanted.video)
        try:
            frames, mask = read_clip(self.reader, wanted.video, self.num_frames, self.sampling, self.order, wanted.rng)
        finally:
            self._note(-1)
        return Item(frames, mask, wanted.video, list(wanted.text_ids))

    def _note(self, video: int) -> None:
        worker = get_worker_info()
        if worker is not None and self.busy is not None:
            self.busy[worker.id, 1] = time.monotonic()
            self.busy[worker.id, 0] = video
