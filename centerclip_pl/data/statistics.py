"""What a dataset is like, in figures: how long its videos and captions are, and which captions are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from centerclip_pl.data.captions import video_list
from centerclip_pl.data.repeated_captions import Repeats, find_repeats
from centerclip_pl.data.splits import SPLITS
from centerclip_pl.errors import CheckpointError
from centerclip_pl.video.check import check_videos

if TYPE_CHECKING:
    from centerclip_pl.data.datamodule import RetrievalDataModule
    from centerclip_pl.data.tokenizer import CaptionTokenizer
    from centerclip_pl.video.manifest import VideoCheck

_CAPTIONS_A_CALL = 1000


class SplitSamples(NamedTuple):
    """One number for each video or caption of a split, of which the figures are made."""

    videos: int
    missing: int
    broken: int
    """Files that cannot be used, and parts of a file that begin after its end."""
    durations: np.ndarray
    """float64, seconds, of the videos that can be used; of a part of a file, its length."""
    num_frames: np.ndarray
    """int64, of the files of these, each once."""
    fps: np.ndarray
    """float64, likewise."""
    sizes: np.ndarray
    """float64, megabytes (10^6 bytes), likewise."""
    pictures: list[tuple[str, int]]
    """Width x height in pixels and how many files have it, the most frequent first."""
    captions_a_video: np.ndarray
    """int64."""
    words: np.ndarray
    """int64, a caption."""
    tokens: np.ndarray | None
    """int64, a caption, start and end token included, before it is cut; None where there is no tokenizer."""
    repeats: Repeats


class Statistics(NamedTuple):
    """Of a dataset; ``splits`` by name."""

    dataset: str
    root: str
    max_words: int
    splits: dict[str, SplitSamples]
    no_tokens: CheckpointError | None
    """Why there is no number of tokens."""

    def figures(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "dataset": self.dataset,
            "root": self.root,
            "max_words": self.max_words,
            "no_tokens": None if self.no_tokens is None else self.no_tokens.problem,
            "splits": {split: _figures(samples, self.max_words) for split, samples in self.splits.items()},
        }


def dataset_statistics(data: RetrievalDataModule, *, jobs: int | None = None, progress: bool = True) -> Statistics:
    """Look at all captions and, unless that was done before, at all video files of a dataset.

    Videos that are missing or broken, and parts that begin after the end of their file, are counted and have no
    duration. Where the tokenizer cannot be loaded, there is
    no number of tokens.

    Args:
        data: made from the experiment file and the user's options.
        jobs: processes that open videos; None: as many as there are processors, at most 16.
        progress: whether to show bars (on a terminal only).

    Raises:
        DataError: the folder or an annotation file is absent or cannot be read.
    """
    data.ensure_files()
    tables = data.published()
    if data.select_on_test:
        tables.pop("val", None)  # is the test split
    root = data.prepared or data.root
    paths = [path for table in tables.values() for path in video_list(table)["path"]]
    files = check_videos(paths, root, timeout=data.check_timeout, workers=jobs, progress=progress)
    ids: dict[str, tuple[int, ...]] | None = None
    reason = None
    try:
        captions = {caption for table in tables.values() for caption in table["caption"]}
        ids = token_ids(data.tokenizer, sorted(captions), progress=progress)
    except CheckpointError as error:
        reason = error
    max_words = data.tokenizer.max_words
    names = [name for name in SPLITS if name in tables]
    splits = {name: split_samples(tables[name], files, ids, max_words) for name in names}
    return Statistics(data.name, str(data.root), max_words, splits, reason)


def token_ids(
    tokenizer: CaptionTokenizer, captions: Sequence[str], *, progress: bool = True
) -> dict[str, tuple[int, ...]]:
    """The token ids of each caption in full, without start and end token.

    Raises:
        CheckpointError: the tokenizer cannot be loaded.
    """
    loaded = tokenizer.load()
    ids: dict[str, tuple[int, ...]] = {}
    bar = tqdm(total=len(captions), desc="counting tokens", unit="caption", disable=None if progress else True)
    with bar:
        for first in range(0, len(captions), _CAPTIONS_A_CALL):
            some = captions[first : first + _CAPTIONS_A_CALL]
            texts = [caption.lower() for caption in some]
            # verbose: a caption that is longer than the model is counted here, not encoded
            encoded = loaded(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
            ids.update(zip(some, map(tuple, encoded), strict=True))
            bar.update(len(some))
    return ids


def split_samples(
    table: pd.DataFrame,
    files: Mapping[str, VideoCheck],
    ids: Mapping[str, tuple[int, ...]] | None,
    max_words: int,
) -> SplitSamples:
    """The numbers of one split.

    Args:
        table: its captions.
        files: the verdict on each of its files, by path.
        ids: the token ids of each caption without start and end token; None where there is no tokenizer.
        max_words: tokens that the model takes of a caption, start and end token included.
    """
    videos = video_list(table)
    checks = [files[path] for path in videos["path"]]
    missing = sum(check.missing for check in checks)
    broken = sum(check.problem is not None for check in checks) - missing
    durations = []
    used: dict[str, VideoCheck] = {}
    for check, start, end in zip(checks, videos["start"], videos["end"], strict=True):
        if check.problem is not None:
            continue
        begin = 0.0 if pd.isna(start) else float(start)
        length = (check.duration if pd.isna(end) else min(float(end), check.duration)) - begin
        if begin > 0 and length <= 0:
            broken += 1
        else:
            durations.append(length)
            used[check.path] = check
    good = list(used.values())
    pictures = Counter(f"{check.width}x{check.height}" for check in good)
    captions = table["caption"].tolist()
    return SplitSamples(
        videos=len(videos),
        missing=missing,
        broken=broken,
        durations=np.array(durations, dtype=np.float64),
        num_frames=np.array([check.num_frames for check in good], dtype=np.int64),
        fps=np.array([check.fps for check in good], dtype=np.float64),
        sizes=np.array([check.size / 1e6 for check in good], dtype=np.float64),
        pictures=pictures.most_common(),
        captions_a_video=table.groupby("video_id", sort=False).size().to_numpy(dtype=np.int64),
        words=np.array([len(caption.split()) for caption in captions], dtype=np.int64),
        tokens=None if ids is None else np.array([len(ids[caption]) + 2 for caption in captions], dtype=np.int64),
        repeats=find_repeats(table, ids, max_words),
    )


def summary(values: np.ndarray) -> dict[str, float] | None:
    """``min``, ``q1``, ``median``, ``q3``, ``max`` and ``mean`` of numbers; None where there are none."""
    if len(values) == 0:
        return None
    names = ("min", "q1", "median", "q3", "max")
    quartiles = np.percentile(values, [0, 25, 50, 75, 100])
    return {**dict(zip(names, map(float, quartiles), strict=True)), "mean": float(values.mean())}


def cut_share(samples: SplitSamples, max_words: int) -> float | None:
    """The share of captions, in %, that lose words at ``max_words``; None where tokens are not known."""
    return None if samples.tokens is None else 100 * float((samples.tokens > max_words).mean())


def _figures(samples: SplitSamples, max_words: int) -> dict[str, Any]:
    numbers = {
        "duration_seconds": samples.durations,
        "frames_a_file": samples.num_frames,
        "frames_a_second": samples.fps,
        "megabytes_a_file": samples.sizes,
        "captions_a_video": samples.captions_a_video,
        "words_a_caption": samples.words,
    }
    return {
        "videos": samples.videos,
        "missing": samples.missing,
        "broken": samples.broken,
        "texts": len(samples.words),
        "hours": float(samples.durations.sum()) / 3600,
        "gigabytes": float(samples.sizes.sum()) / 1e3,
        **{name: summary(values) for name, values in numbers.items()},
        "tokens_a_caption": None if samples.tokens is None else summary(samples.tokens),
        "captions_cut_percent": cut_share(samples, max_words),
        "pixels": [{"size": size, "files": count} for size, count in samples.pictures],
        "shared_captions": {
            **samples.repeats._asdict(),
            "examples": [{"caption": text, "videos": count} for text, count in samples.repeats.examples],
        },
    }
