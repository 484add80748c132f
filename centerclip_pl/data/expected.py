"""How many videos and texts the published splits have, so that a short download is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
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


def holds_out_validation(data: RetrievalDataModule) -> bool:
    """Whether the validation videos are known to be taken from the published training split."""
    return data.name in _HELD_OUT and not data.select_on_test
