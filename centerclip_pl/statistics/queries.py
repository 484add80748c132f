"""Ranks of several runs, query by query in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from centerclip_pl.errors import DataError

DIRECTIONS = ("t2v", "v2t")
_KEY = ["direction", "video_id", "caption", "occurrence"]


@dataclass(frozen=True)
class Queries:
    """The ranks of one direction from R runs of the same Q queries, which belong to V videos."""

    ranks: NDArray[np.float64]
    """``[R, Q]``, from 1."""
    video: NDArray[np.int64]
    """``[Q]``: the number, 0 to V - 1, of the video that a query belongs to; ascending."""
    videos: int
    """V."""

    def select(self, runs: slice | Sequence[int]) -> Queries:
        """Some of the runs."""
        return Queries(self.ranks[runs], self.video, self.videos)


def align(frames: Sequence[pd.DataFrame], names: Sequence[str] | None = None) -> dict[str, Queries]:
    """Brings the ranks of several runs into one order: by video, then by caption.

    Queries are the same if direction, video and caption are, and, where a video has a caption more than once, the
    number of the repeat. The order of the rows makes no other difference.

    Args:
        frames: of ``centerclip_pl.runs.read_run_ranks``: ``direction``, ``video_id``, ``caption``, ``rank``, perhaps
            ``rank_dual_softmax`` and the like; at least one frame.
        names: what to call them in errors; by default their numbers.

    Returns:
        ``"t2v"`` and ``"v2t"``, as far as there are ranks of them; ``"dual_softmax/t2v"`` and the like where all
        frames have that column.

    Raises:
        DataError: there is no rank, or the runs have different queries; counts which.
    """
    names = [f"run {n}" for n in range(1, len(frames) + 1)] if names is None else names
    keyed = [_keyed(frame) for frame in frames]
    if not len(keyed[0]):
        raise DataError(f"{names[0]}: has no ranks", "test the run again: `centerclip eval --checkpoint=...`")
    first = keyed[0]
    for name, other in zip(names[1:], keyed[1:], strict=True):
        if not other[_KEY].equals(first[_KEY]):
            raise DataError(
                f"{names[0]} and {name} were tested on different queries: {_differences(first, other)}",
                "compare runs of the same test split, with the same videos left out; test one of them again "
                "(`centerclip eval --checkpoint=...`)",
            )
    columns = [name for name in first.columns if name.startswith("rank") and all(name in each for each in keyed)]
    found = {}
    for column in columns:
        ranks = np.stack([frame[column].to_numpy(dtype=np.float64) for frame in keyed])
        for direction in DIRECTIONS:
            rows = (first["direction"] == direction).to_numpy()
            if rows.any() and not np.isnan(ranks[:, rows]).any():  # post-processing may be of one direction only
                video, videos = pd.factorize(first.loc[rows, "video_id"])  # sorted, so numbers ascend
                family = column.removeprefix("rank").removeprefix("_")
                name = f"{family}/{direction}" if family else direction
                found[name] = Queries(ranks[:, rows], video.astype(np.int64), len(videos))
    return found


def _keyed(frame: pd.DataFrame) -> pd.DataFrame:
    caption = frame["caption"].astype(object)
    ranks = [name for name in frame.columns if name.startswith("rank")]
    keyed = frame[["direction", "video_id", *ranks]].assign(caption=caption.where(caption.notna(), ""))
    keyed["occurrence"] = keyed.groupby(_KEY[:3], sort=False).cumcount()
    return keyed.sort_values(_KEY, kind="stable", ignore_index=True)


def _differences(a: pd.DataFrame, b: pd.DataFrame) -> str:
    both = a[_KEY].merge(b[_KEY], how="outer", indicator="of")
    count = both["of"].value_counts()
    of = {
        direction: f"{len(a[a['direction'] == direction]):,} and {len(b[b['direction'] == direction]):,}"
        for direction in DIRECTIONS
    }
    return (
        f"{count['left_only']:,} in the first alone, {count['right_only']:,} in the second alone, {count['both']:,} in "
        f"both (t2v: {of['t2v']}; v2t: {of['v2t']})"
    )
