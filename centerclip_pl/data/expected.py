"""How many videos and texts the published splits have, so that a short download is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from centerclip_pl.data.datamodule import RetrievalDataModule


class Expected(NamedTuple):
    """Of one split; None: no published number is known."""

    videos: int | None = None
    texts: int | None = None


_PUBLISHED: dict[str, dict[str, Expected]] = {
    # 20 captions a video. The 1k-A test (JSFusion, Yu et al., ECCV 2018) takes one of them for each of 1,000 videos.
    "msrvtt-9k": {"train": Expected(9_000, 180_000), "test": Expected(1_000, 1_000)},
    "msrvtt-7k": {"train": Expected(7_010, 140_200), "test": Expected(1_000, 1_000)},
    # Captions without a word are left out, so their number is not held against the published one.
    "msvd": {"train": Expected(1_200), "val": Expected(100), "test": Expected(670)},
    # Counts of the training and validation files differ between publications.
    "lsmdc": {"test": Expected(1_000, 1_000)},
    # One paragraph a video; ids without captions are in no split.
    "activitynet": {"train": Expected(10_009, 10_009), "test": Expected(4_917, 4_917)},
    # One paragraph a video. The training list differs between publications.
    "didemo": {"val": Expected(1_065, 1_065), "test": Expected(1_004, 1_004)},
}
_HELD_OUT = ("msrvtt", "activitynet")  # have no validation split of their own


def expected_counts(data: RetrievalDataModule) -> dict[str, Expected]:
    """What is published of each split of a dataset, by split; nothing for a dataset of one's own.

    The demo is generated: its numbers are those of its options.
    """
    if data.name == "demo":
        sizes: dict[str, int] = getattr(data, "sizes", {})
        return {split: Expected(videos) for split, videos in sizes.items()}
    training = getattr(data, "training_split", None)
    name = data.name if training is None else f"{data.name}-{training}"
    return dict(_PUBLISHED.get(name, {}))


def other_counts(data: RetrievalDataModule, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """How many videos the annotation files list where another number is published, a clause for each such split.

    Args:
        data: the dataset.
        tables: its caption tables before anything is held out of them.
    """
    clauses = []
    for split, (videos, _) in expected_counts(data).items():
        listed = int(tables[split]["video_id"].nunique()) if split in tables else 0
        if videos is not None and listed != videos:
            clauses.append(f"{listed:,} for {split} (published: {videos:,})")
    return clauses


def counts_step(data: RetrievalDataModule) -> str:
    """What to do where the annotation files list other videos or texts than are published."""
    from centerclip_pl.data.download.sources import SOURCES

    offered = any(source.part == "annotations" for source in SOURCES.get(data.name, ()))
    fetch = f", then `centerclip data download {data.name} --only=annotations` fetches the published ones" * offered
    return (
        f"the annotation files in {data.root} are not as published: remove or replace them{fetch}. Leave them if you "
        "mean a part of the dataset; its figures are not to be compared with published ones"
    )


def holds_out_validation(data: RetrievalDataModule) -> bool:
    """Whether the validation videos are known to be taken from the published training split."""
    return data.name in _HELD_OUT and not data.select_on_test
