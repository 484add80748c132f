"""What all datasets share: options, the check before anything runs, loaders, and the facts that a report needs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import pandas as pd
import torch

from centerclip_pl.data.bad_videos import BadVideo
from centerclip_pl.data.captions import video_list
from centerclip_pl.data.dataset import Captions, OnBadVideo, VideoCaptionDataset
from centerclip_pl.data.frames import CacheReader, EvalSampling, FileReader, FrameReader, Sampling
from centerclip_pl.data.loader import VideoLoader, default_workers, video_loader
from centerclip_pl.data.options import require_one_of, require_positive
from centerclip_pl.data.sampler import EpochSampler
from centerclip_pl.data.splits import SPLITS, Splits
from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.draws import seed_of_run
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.video.decode import DEFAULT_DECODER, Decoder, check_decoder
from centerclip_pl.video.sampling import FrameOrder

if TYPE_CHECKING:
    from centerclip_pl.data.frame_cache import FrameCache


class RetrievalDataModule(L.LightningDataModule):
    """Base of all datasets. A dataset is a small class: ``name``, :meth:`tables`, :attr:`next_step`, :meth:`protocol`.

    Before anything runs, every video file of the splits concerned is opened and decoded in part (once; the results are
    kept beside the data). ``fit`` looks at all three splits, so that a missing test video is not found out after the
    training. Files that cannot be used end the run, or are dropped where the user asked for that.

    Where a dataset has no validation split, ``val_videos`` training videos are held out, chosen by a hash of their ids:
    the same ones on every machine and in every run.

    Args:
        root: folder of the dataset.
        num_frames: frames a video, T.
        max_words: tokens a caption, start and end token included.
        image_size: height and width of the frames in pixels; what the backbone expects.
        tokenizer: a folder, or an id on the Hugging Face hub; what belongs to the backbone.
        batch_size: videos a training batch, in each process.
        global_batch_size: videos a training batch over all processes, each of which takes an equal part, whatever
            ``batch_size`` is; so a run is the same on any number of processes. None: as ``batch_size`` has it.
        eval_batch_size: videos a batch in evaluation; None: as ``batch_size``.
        num_workers: processes that decode; None: the processors there are, less one, at most 8; 0: none, and then
            nothing can end a decoder that hangs.
        train_sampling: training frames: ``"random"``, one of each of T stretches; ``"uniform"``, the middle of each;
            ``"head"`` or ``"tail"``, the first or last T.
        eval_sampling: frames in evaluation, likewise, but for ``"random"``.
        train_order: order of the frames in training: ``"forward"``, ``"reverse"`` or ``"shuffle"``.
        eval_order: order of the frames in evaluation, likewise; ``"shuffle"`` is the same in every evaluation.
        fps: frames a second to choose from, e.g. 1 for videos as they were published with CLIP4Clip's rule; None: all
            frames of the file.
        decoder: ``"pyav"``, ``"decord"`` or, where it is installed, ``"torchcodec"``; they give the same frames.
        videos: a folder that ``centerclip data prepare`` wrote, whose videos take the place of the published ones.
        cache: a folder (or an address such as s3://...) that ``centerclip data cache`` wrote: frames come from there,
            and no video is opened.
        captions_per_video: in an epoch of training, ``"random"``: each video once, with one of its captions, another
            each time; ``"all"``: each caption once.
        on_bad_video: what to do about files that cannot be used: ``"error"``; ``"drop"`` them from the dataset, and
            from a batch where one fails only later; or ``"resample"``: training takes another video, drawn at random,
            wherever one is bad, so that an epoch keeps its length (evaluation drops them). Both count and list them.
        val_videos: training videos to hold out for validation, a number or a share below 1; not used where the dataset
            has a validation split. 0: none, so that a training is not validated (``train --select=last``).
        select_on_test: validate on the test split, as the published systems do, and hold nothing out. Figures so
            obtained are too high; they are labelled in results.json.
        predict_split: the split that ``predict`` embeds.
        check_timeout: seconds that the check of one file may take.
        loader_timeout: seconds to wait for a batch before the decoder is taken to hang.
        pin_memory: page-locked memory for batches; None: where there is a CUDA device.

    Raises:
        ConfigError: an option with a value that cannot work.
    """

    name: str = ""
    """Short name for reports and file names, e.g. ``"msrvtt"``."""

    def __init__(
        self,
        root: str,
        num_frames: int = 12,
        max_words: int = 32,
        image_size: int = 224,
        tokenizer: str = "openai/clip-vit-base-patch32",
        batch_size: int = 32,
        global_batch_size: int | None = None,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        train_sampling: Sampling = "random",
        eval_sampling: EvalSampling = "uniform",
        train_order: FrameOrder = "forward",
        eval_order: FrameOrder = "forward",
        fps: float | None = None,
        decoder: Decoder = DEFAULT_DECODER,
        videos: str | None = None,
        cache: str | None = None,
        captions_per_video: Captions = "random",
        on_bad_video: OnBadVideo = "error",
        val_videos: int | float = 500,
        select_on_test: bool = False,
        predict_split: str = "test",
        check_timeout: float = 30.0,
        loader_timeout: float = 600.0,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        require_positive(num_frames=num_frames, image_size=image_size, batch_size=batch_size)
        eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        require_positive(eval_batch_size=eval_batch_size, check_timeout=check_timeout, loader_timeout=loader_timeout)
        require_one_of(("random", "uniform", "head", "tail"), train_sampling=train_sampling)
        require_one_of(("uniform", "head", "tail"), eval_sampling=eval_sampling)
        require_one_of(("forward", "reverse", "shuffle"), train_order=train_order, eval_order=eval_order)
        check_decoder(decoder)
        require_one_of(("random", "all"), captions_per_video=captions_per_video)
        require_one_of(("error", "drop", "resample"), on_bad_video=on_bad_video)
        if fps is not None:
            require_positive(fps=fps)
        if videos is not None and cache is not None:
            raise ConfigError(f"videos={videos} and cache={cache}: frames come from one of them", "leave one out")
        require_one_of(SPLITS, predict_split=predict_split)
        if num_workers is not None and num_workers < 0:
            raise ConfigError(f"num_workers={num_workers}: must be 0 or more, or null to choose by itself")
        self.root = Path(root)
        self.num_frames = num_frames
        self.image_size = image_size
        self.tokenizer = CaptionTokenizer(tokenizer, max_words)
        if global_batch_size is not None:
            require_positive(global_batch_size=global_batch_size)
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.train_sampling: Sampling = train_sampling
        self.eval_sampling: EvalSampling = eval_sampling
        self.train_order: FrameOrder = train_order
        self.eval_order: FrameOrder = eval_order
        self.fps = fps
        self.decoder = decoder
        self.prepared = None if videos is None else Path(videos)
        self.cache = cache
        self.captions_per_video: Captions = captions_per_video
        self.on_bad_video: OnBadVideo = on_bad_video
        self.val_videos = val_videos
        self.select_on_test = select_on_test
        self.predict_split = predict_split
        self.check_timeout = check_timeout
        self.loader_timeout = loader_timeout
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._splits = Splits(self)

    # What a dataset says of itself.

    def tables(self) -> dict[str, pd.DataFrame]:
        """The caption tables by split: ``"train"``, ``"test"`` and, where the dataset has one, ``"val"``.

        Called once ``root`` is known to exist. Built with :func:`~centerclip_pl.data.captions.caption_table`.

        Raises:
            DataError: an annotation file is absent or cannot be read.
        """
        raise TypeError(f"{type(self).__name__} does not define tables()")

    @property
    def next_step(self) -> str:
        """Exactly what to put where, for a user who has not got the files; part of every error about absent files."""
        return f"put the files of the dataset into {self.root}, or name another folder: --data.root=FOLDER"

    def without_split(self, split: str) -> str | None:
        """The next step for a user whose dataset lacks a split; None: there is none."""
        if split != "val":
            return None
        return (
            "hold some of the training videos out, e.g. --data.val_videos=0.1, or test the weights as training leaves "
            "them: --select=last"
        )

    def protocol(self, split: str) -> str:
        """What figures on this split may be compared with, e.g. ``"msrvtt-1ka"``; goes into results.json."""
        return f"{self.name}-{split}"

    def ensure_files(self) -> None:
        """Make what can be made before the check; for datasets that are generated. Called on one process a machine."""

    @property
    def video_root(self) -> Path:
        """Where the videos are looked for: the folder of the dataset, or that of its prepared videos."""
        return self.prepared or self.root

    @cached_property
    def frame_cache(self) -> FrameCache | None:
        """What ``cache`` names, opened once for the check and all splits; None without it."""
        if self.cache is None:
            return None
        from centerclip_pl.data.frame_cache import FrameCache

        return FrameCache(self.cache)

    @property
    def files_step(self) -> str:
        """What to do about videos that are not where they are looked for."""
        if self.cache is not None:
            return f"write the cache anew or go on with it: centerclip data cache {self.name} --out={self.cache}"
        if self.prepared is not None:
            return f"prepare those that are missing: centerclip data prepare {self.name} --out={self.prepared}"
        return self.next_step

    # What reports ask.

    @property
    def bad_videos(self) -> list[BadVideo]:
        """The videos that cannot be used, over all splits so far: those that the check found, and those that could not
        be read later (in this process; see :meth:`share_bad_videos`)."""
        return self._splits.bad_videos()

    def share_bad_videos(self) -> None:
        """Let every process know what the others could not read. All processes must call it."""
        self._splits.share()

    def counts(self) -> dict[str, dict[str, int]]:
        """For each split checked so far: ``videos`` and ``texts`` in use, and not in use (``missing``, ``broken``)."""
        return self._splits.counts()

    def published_videos(self, split: str) -> int | None:
        """How many videos a split has as published; None where no number is known, as for a dataset of one's own."""
        from centerclip_pl.data.expected import expected_counts

        expected = expected_counts(self).get(split)
        return None if expected is None else expected.videos

    def published(self) -> dict[str, pd.DataFrame]:
        """The caption tables by split, a held-out validation split included, whether the videos can be used or not.

        Raises:
            DataError: an annotation file is absent or cannot be read.
        """
        return self._splits.published()

    def videos(self, split: str) -> list[str]:
        """The ids of the videos of a split; a batch's ``video_ids`` are positions in this list."""
        return video_list(self.captions(split))["video_id"].tolist()

    def captions(self, split: str) -> pd.DataFrame:
        """The caption table of a split; a batch's ``text_ids`` are its rows. Columns as in ``captions.COLUMNS``."""
        return self._splits.table(split).copy()

    def tagged_texts(self, split: str) -> dict[str, list[int]]:
        """The text ids of each ``tag`` in the caption table; empty where the dataset has no such column."""
        table = self.captions(split)
        if "tag" not in table.columns:
            return {}
        tags = table["tag"].fillna("").astype(str)
        return {tag: table.index[tags == tag].tolist() for tag in sorted(set(tags) - {""})}

    def check(self, stage: str | None = None, and_test: bool = False, validates: bool = False) -> None:
        """Make generated files, read the captions and check the videos of the splits that a stage needs.

        Needs neither the model nor the tokenizer, so that it can come before anything that takes long.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``; None: all splits.
            and_test: a test follows, so that the dataset must have a test split; ``"fit"`` alone does not need one.
            validates: a checkpoint is chosen on validation, so that ``"fit"`` must have videos for it.

        Raises:
            DataError: something is absent or broken; the text says what to do.
        """
        self.ensure_files()
        self._splits.require(self._splits.of_stage(stage, and_test, validates))

    # What Lightning calls.

    def prepare_data(self) -> None:
        """Make generated files, and check the videos once a machine; the other processes find the results on disk."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.check(self.trainer.state.fn.value)
        else:
            self.ensure_files()

    def setup(self, stage: str | None = None) -> None:
        """Read the captions and check the videos of the splits that this stage needs.

        Raises:
            DataError: something is absent or broken; the text says what to do.
            CheckpointError: the tokenizer cannot be loaded.
        """
        self._splits.require(splits := self._splits.of_stage(stage))
        self._splits.agree(splits)
        for split in splits:
            self.tokenizer.require_words(self._splits.table(split)["caption"].head(100).tolist())

    def train_dataloader(self) -> VideoLoader:
        """Shuffled training batches, all of ``batch_size``.

        Raises:
            DataError: there are too few videos for one batch.
        """
        trainer = self.trainer
        world_size, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        seed = seed_of_run(world_size)
        dataset = self._dataset("train", training=True, seed=seed)
        batch_size = self._training_batch(world_size)
        fits = max(1, len(dataset) // world_size)
        if fits < batch_size or len(dataset) < world_size:
            option = (
                f"batch_size={fits}" if self.global_batch_size is None else f"global_batch_size={fits * world_size}"
            )
            raise DataError(
                f"{self.root}: {len(dataset)} training items over {world_size} process(es) do not fill one batch of "
                f"batch_size={batch_size}",
                f"lower it: --data.{option}",
            )
        sampler = EpochSampler(dataset, world_size, rank, seed, batch_size)
        if trainer:
            sampler.batches_done = lambda: trainer.fit_loop.batch_idx + 1
        return self._loader(dataset, batch_size, sampler)

    def _training_batch(self, processes: int) -> int:
        """Videos of a training batch in each process."""
        if self.global_batch_size is None:
            return self.batch_size
        if self.global_batch_size % processes:
            raise ConfigError(
                f"global_batch_size={self.global_batch_size} cannot be divided among {processes} processes",
                f"take a multiple: --data.global_batch_size={-(-self.global_batch_size // processes) * processes}",
            )
        return self.global_batch_size // processes

    def val_dataloader(self) -> VideoLoader | list[VideoLoader]:
        """The validation split in order, each video once with all its captions; nothing where there is none."""
        if self.val_videos == 0 and "val" not in self._splits.names():
            return []
        return self._loader(self._dataset("val"), self.eval_batch_size)

    def test_dataloader(self) -> VideoLoader:
        """The test split in order, each video once with all its captions."""
        return self._loader(self._dataset("test"), self.eval_batch_size)

    def predict_dataloader(self) -> VideoLoader:
        """The split ``predict_split`` in order, each video once with all its captions."""
        return self._loader(self._dataset(self.predict_split), self.eval_batch_size)

    # How it is done.

    def _dataset(self, split: str, *, training: bool = False, seed: int = 0) -> VideoCaptionDataset:
        table = self.captions(split)
        return VideoCaptionDataset(
            table,
            self.tokenizer,
            self._reader(table),
            num_frames=self.num_frames,
            training=training,
            sampling=self.train_sampling if training else self.eval_sampling,
            order=self.train_order if training else self.eval_order,
            captions=self.captions_per_video,
            seed=seed,
            on_bad_video=self.on_bad_video,
            lost=self._splits.lost(split),
        )

    def _reader(self, table: pd.DataFrame) -> FrameReader:
        if self.frame_cache is not None:
            return CacheReader(table, self.frame_cache)
        return FileReader(table, self.image_size, fps=self.fps, decoder=self.decoder)

    def _loader(
        self, dataset: VideoCaptionDataset, batch_size: int, sampler: EpochSampler | None = None
    ) -> VideoLoader:
        workers = self.num_workers
        if workers is None:
            workers = default_workers(self.trainer.num_devices if self.trainer else 1)
        return video_loader(
            dataset,
            batch_size,
            num_workers=workers,
            timeout=self.loader_timeout,
            pin_memory=self.pin_memory,
            sampler=sampler,
        )
