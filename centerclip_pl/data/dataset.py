"""Captions and files to items, items to :class:`~centerclip_pl.types.Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from centerclip_pl.data.captions import video_list
from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.errors import CenterCLIPError
from centerclip_pl.types import Batch
from centerclip_pl.video.decode import read_frames
from centerclip_pl.video.sampling import real_frames, segment_random_indices, uniform_indices
from centerclip_pl.video.transforms import resize_and_crop

Sampling = Literal["random", "uniform"]
Captions = Literal["random", "all"]
Key = int | tuple[int, int]
"""An index, or an index and the epoch."""


class Item(NamedTuple):
    """One video with some of its captions."""

    frames: Tensor
    """uint8 ``[T, 3, H, W]``."""
    frame_mask: Tensor
    """bool ``[T]``."""
    video: int
    text_ids: list[int]


class Failure(NamedTuple):
    """An error on its way from a loader's process to the main one, which raises it.

    torch would rebuild the exception from one string of text, which loses its file and its next step.
    """

    error: CenterCLIPError


class VideoCaptionDataset(Dataset[Item]):
    """Videos with captions, decoded on demand.

    For evaluation (``training=False``) an item is a video with all its captions, frames chosen uniformly. For training
    an item is a video with one caption; there are as many items as videos (``captions="random"``: another caption each
    epoch) or as captions (``captions="all"``; a batch may then hold a video twice).

    Random choices depend on ``seed``, the epoch and the index, where the key is ``(index, epoch)`` as
    :class:`~centerclip_pl.data.loader.EpochSampler` gives it: the same in every run, for any number of loader
    processes, and in a run that resumes. With a bare index they come from torch's global generator.

    Args:
        table: a caption table (see :mod:`~centerclip_pl.data.captions`); its index is the text id.
        tokenizer: for :meth:`collate`.
        num_frames: T, frames a video; shorter videos are filled up with their last frame.
        image_size: height and width of the frames, in pixels.
        training: which of the two.
        sampling: for training, a random frame of each stretch of the video, or the uniform ones as in evaluation.
        captions: for training, see above.
        seed: for training.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tokenizer: CaptionTokenizer,
        *,
        num_frames: int,
        image_size: int,
        training: bool = False,
        sampling: Sampling = "random",
        captions: Captions = "random",
        seed: int = 0,
    ) -> None:
        videos = video_list(table)
        self.paths: list[str] = videos["path"].tolist()
        self._spans = videos[["start", "end"]].to_numpy(dtype=np.float64)
        rows = {video_id: row for row, video_id in enumerate(videos["video_id"])}
        self._video_of_text = [rows[video_id] for video_id in table["video_id"]]
        self._texts_of_video: list[list[int]] = [[] for _ in rows]
        for text, video in enumerate(self._video_of_text):
            self._texts_of_video[video].append(text)
        self._captions: list[str] = table["caption"].tolist()
        self.tokenizer = tokenizer
        self.num_frames = num_frames
        self.image_size = image_size
        self.training = training
        self.sampling = sampling
        self.captions = captions
        self.seed = seed
        self.busy: Tensor | None = None
        """int64 ``[workers]`` in shared memory, set by the loader: the video that each process is decoding, or -1."""
        self.patience = float("inf")
        """Seconds that the loader waits for a batch, set by the loader."""

    def __len__(self) -> int:
        return len(self._captions) if self.training and self.captions == "all" else len(self.paths)

    def __getitem__(self, key: Key) -> Item:
        """Decode one item.

        Raises:
            VideoError: the file has vanished or cannot be decoded.
        """
        index = key if isinstance(key, int) else key[0]
        if not self.training:
            return self._item(index, self._texts_of_video[index], None)
        rng = self._rng(key)
        if self.captions == "all":
            return self._item(self._video_of_text[index], [index], rng)
        texts = self._texts_of_video[index]
        return self._item(index, [texts[int(rng.integers(len(texts)))]], rng)

    def __getitems__(self, keys: Sequence[Key]) -> list[Item] | list[Failure]:
        """What a DataLoader calls for a batch: an error the user can mend becomes an item."""
        try:
            return [self[key] for key in keys]
        except CenterCLIPError as error:
            return [Failure(error)]

    def collate(self, items: Sequence[Item | Failure]) -> Batch | Failure:
        """Items to a batch; captions are encoded here, in the loader's process."""
        good: list[Item] = []
        for item in items:
            if isinstance(item, Failure):
                return item
            good.append(item)
        text_ids = [text for item in good for text in item.text_ids]
        try:
            input_ids, attention_mask = self.tokenizer([self._captions[text] for text in text_ids])
        except CenterCLIPError as error:
            return Failure(error)
        return Batch(
            frames=torch.stack([item.frames for item in good]),
            frame_mask=torch.stack([item.frame_mask for item in good]),
            video_ids=torch.tensor([item.video for item in good], dtype=torch.int64),
            input_ids=input_ids,
            attention_mask=attention_mask,
            text_ids=torch.tensor(text_ids, dtype=torch.int64),
            video_of_text=torch.tensor([self._video_of_text[text] for text in text_ids], dtype=torch.int64),
        )

    def _rng(self, key: Key) -> np.random.Generator:
        if isinstance(key, int):
            return np.random.default_rng(int(torch.randint(2**62, ())))
        index, epoch = key
        return np.random.default_rng([self.seed, epoch, index])

    def _item(self, video: int, text_ids: list[int], rng: np.random.Generator | None) -> Item:
        def choose(available: int) -> list[int]:
            if rng is None or self.sampling == "uniform":
                indices = uniform_indices(available, self.num_frames)
            else:
                indices = segment_random_indices(available, self.num_frames, rng)
            return indices[: real_frames(available, self.num_frames)]  # the repeated last frame is added below

        start, end = (None if np.isnan(second) else float(second) for second in self._spans[video])
        self._note(video)
        try:
            frames = resize_and_crop(read_frames(self.paths[video], choose, start, end), self.image_size)
        finally:
            self._note(-1)
        real = len(frames)
        last = frames[-1:].expand(self.num_frames - real, -1, -1, -1)
        mask = torch.arange(self.num_frames) < real
        return Item(torch.cat([frames, last]), mask, video, list(text_ids))

    def _note(self, video: int) -> None:
        worker = get_worker_info()
        if worker is not None and self.busy is not None:
            self.busy[worker.id] = video
