"""The splits of a dataset, from what was published to what can be used: read, checked, rid of bad videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from centerclip_pl.data.bad_videos import BadVideo, bad_videos_error, find_bad_videos
from centerclip_pl.data.captions import hold_out, without_videos
from centerclip_pl.errors import DataError
from centerclip_pl.video.decode import MISSING

if TYPE_CHECKING:
    from centerclip_pl.data.datamodule import RetrievalDataModule

SPLITS = ("train", "val", "test")


class Splits:
    """Caption tables of a datamodule, each split checked when it is first asked for.

    Args:
        source: the datamodule, whose ``tables()``, ``root`` and options are read when needed.
    """

    def __init__(self, source: RetrievalDataModule) -> None:
        self._source = source
        self._published: dict[str, pd.DataFrame] | None = None
        self._usable: dict[str, pd.DataFrame] = {}
        self._bad: dict[str, list[BadVideo]] = {}

    def names(self) -> list[str]:
        """The splits that the dataset has, a held-out validation split included."""
        return list(self._read())

    def of_stage(self, stage: str | None, and_test: bool = False) -> list[str]:
        """The splits that a stage of Lightning's needs, and then a test; None: all that there are."""
        if stage == "predict":
            needed = [self._source.predict_split]
        elif stage in ("validate", "test"):
            needed = ["val" if stage == "validate" else "test"]
        else:
            names = self.names()
            needed = names if stage is None else ["train", "val", *(name for name in names if name == "test")]
        return [*needed, "test"] if and_test and "test" not in needed else needed

    def table(self, split: str) -> pd.DataFrame:
        """The usable captions of a split, indexed 0, 1, ..."""
        self.require([split])
        return self._usable[split]

    def bad_videos(self) -> list[BadVideo]:
        """The videos that were dropped, over all splits checked so far."""
        return [video for videos in self._bad.values() for video in videos]

    def counts(self) -> dict[str, dict[str, int]]:
        """Videos and texts in use, and videos dropped as missing or broken, for each split checked so far."""
        counts = {}
        for split, table in self._usable.items():
            missing = sum(video["reason"] == MISSING for video in self._bad[split])
            counts[split] = {
                "videos": int(table["video_id"].nunique()),
                "texts": len(table),
                "missing": missing,
                "broken": len(self._bad[split]) - missing,
            }
        return counts

    def require(self, splits: Sequence[str]) -> None:
        """Have these splits read and checked, or change nothing.

        Raises:
            DataError: there is no such split; videos cannot be used and were not to be dropped, or none would be left.
        """
        source, published = self._source, self._read()
        for split in splits:
            if split not in published:
                raise DataError(
                    f"{source.root}: the dataset has no {split} split; it has {', '.join(published)}",
                    source.without_split(split),
                )
        new = {split: published[split] for split in splits if split not in self._usable}
        if not new:
            return
        found = find_bad_videos(new, source.root, source.check_timeout)
        bad = {split: [video for video in found if video["split"] == split] for split in new}
        videos = {split: table["video_id"].nunique() for split, table in new.items()}
        nothing_left = any(len(bad[split]) == videos[split] for split in new)
        if found and (nothing_left or source.on_bad_video == "error"):
            raise bad_videos_error(found, sum(videos.values()), source.next_step)
        for split, table in new.items():
            self._bad[split] = bad[split]
            self._usable[split] = without_videos(table, {video["video_id"] for video in bad[split]})

    def _read(self) -> dict[str, pd.DataFrame]:
        """The tables as published, with a validation split; read once."""
        if self._published is not None:
            return self._published
        source = self._source
        _check_folder(source.root, source.next_step)
        tables = source.tables()
        for split in ("val", "test"):
            _check_disjoint(source.root, tables, "train", split)
        if source.select_on_test:
            if "test" not in tables:
                raise DataError(
                    f"select_on_test=true, but {source.root} has no test split", source.without_split("test")
                )
            tables["val"] = tables["test"].copy()
        elif "val" in tables:
            _check_disjoint(source.root, tables, "val", "test")
        elif "train" in tables:
            tables["train"], tables["val"] = hold_out(tables["train"], source.val_videos)
        self._published = tables
        return tables


def _check_folder(root: Path, next_step: str) -> None:
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"the folder of the dataset, {root}, {what}", next_step)


def _check_disjoint(root: Path, tables: dict[str, pd.DataFrame], one: str, other: str) -> None:
    if one in tables and other in tables:
        shared = set(tables[one]["video_id"]) & set(tables[other]["video_id"])
        if shared:
            some = ", ".join(sorted(shared)[:3])
            raise DataError(
                f"{root}: {len(shared)} videos are in both {one} and {other}, e.g. {some}",
                "a video may be in one split only: correct the annotations",
            )
