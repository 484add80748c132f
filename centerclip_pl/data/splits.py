"""The splits of a dataset, from what was published to what can be used: read, checked, rid of bad videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
import torch.distributed as dist

from centerclip_pl.data.bad_videos import BadVideo, bad_videos_error, find_bad_clips, find_bad_videos
from centerclip_pl.data.captions import hold_out, video_list, without_videos
from centerclip_pl.errors import DataError
from centerclip_pl.video.decode import MISSING

if TYPE_CHECKING:
    from centerclip_pl.data.datamodule import RetrievalDataModule

_T = TypeVar("_T")

SPLITS = ("train", "val", "test")


class Splits:
    """Caption tables of a datamodule, each split checked when it is first asked for.

    Args:
        source: the datamodule, whose ``tables()``, ``root`` and options are read when needed.
    """

    def __init__(self, source: RetrievalDataModule) -> None:
        self._source = source
        self._published: dict[str, pd.DataFrame] | None = None
        self._used: dict[str, pd.DataFrame] = {}
        self._bad: dict[str, list[BadVideo]] = {}  # what the check found
        self._lost: dict[str, dict[int, str]] = {}

    def names(self) -> list[str]:
        """The splits that the dataset has, a held-out validation split included."""
        return list(self._read())

    def of_stage(self, stage: str | None, and_test: bool = False, validates: bool = False) -> list[str]:
        """The splits that a stage of Lightning's needs, and then a test; None: all that there are.

        `validates`: ``"fit"`` needs a validation split even where the dataset has none and ``val_videos`` is 0.
        """
        if stage == "predict":
            needed = [self._source.predict_split]
        elif stage in ("validate", "test"):
            needed = ["val" if stage == "validate" else "test"]
        else:
            names = self.names()
            optional = ["test"] if validates else ["val", "test"]
            needed = names if stage is None else [split for split in SPLITS if split in names or split not in optional]
        return [*needed, "test"] if and_test and "test" not in needed else needed

    def published(self) -> dict[str, pd.DataFrame]:
        """All captions by split, of videos that can be used or not."""
        return {split: table.copy() for split, table in self._read().items()}

    def table(self, split: str) -> pd.DataFrame:
        """The captions of a split that are used, indexed 0, 1, ..."""
        self.require([split])
        return self._used[split]

    def lost(self, split: str) -> dict[int, str]:
        """The videos of :meth:`table`, by row, that cannot be read, and why. Loaders add to it."""
        self.require([split])
        return self._lost[split]

    def bad_videos(self) -> list[BadVideo]:
        """The videos that cannot be used, over all splits checked so far."""
        return [video for split in self._used for video in self._bad_of(split)]

    def counts(self) -> dict[str, dict[str, int]]:
        """Videos and texts in use, and videos not in use as missing or broken, for each split checked so far."""
        counts = {}
        for split, table in self._used.items():
            bad = self._bad_of(split)
            good = without_videos(table, {video["video_id"] for video in bad})
            missing = sum(video["reason"] == MISSING for video in bad)
            counts[split] = {
                "videos": int(good["video_id"].nunique()),
                "texts": len(good),
                "missing": missing,
                "broken": len(bad) - missing,
            }
        return counts

    def share(self) -> None:
        """Put together what the processes could not read. All of them must call it."""
        for lost in _from_everyone(self._lost):
            for split, videos in lost.items():
                self._lost.setdefault(split, {}).update(videos)

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
        new = {split: published[split] for split in splits if split not in self._used}
        if not new:
            return
        found = self._find_bad(new)
        self._refuse(found, new)
        for split in new:
            self._use(split, [video for video in found if video["split"] == split])

    def agree(self, splits: Sequence[str]) -> None:
        """Leave out what the check of any process found bad, so that a row is the same video in all. All must call it.

        They may differ where each machine has its own copy of the files, or a slow disk.

        Raises:
            DataError: as in :meth:`require`.
        """
        everyone = _from_everyone({split: self._bad[split] for split in splits})
        for split in splits:
            found = {video["video_id"]: video for bad in [*everyone, self._bad] for video in bad[split]}
            if len(found) > len(self._bad[split]):
                table = self._read()[split]
                bad = [found[video_id] for video_id in table["video_id"].unique() if video_id in found]
                self._refuse(bad, {split: table})
                self._use(split, bad)

    def _refuse(self, found: Sequence[BadVideo], tables: Mapping[str, pd.DataFrame]) -> None:
        videos = {split: table["video_id"].nunique() for split, table in tables.items()}
        nothing_left = any(sum(video["split"] == split for video in found) == count for split, count in videos.items())
        if found and (nothing_left or self._source.on_bad_video == "error"):
            raise bad_videos_error(found, sum(videos.values()), self._source.files_step)

    def _use(self, split: str, found: list[BadVideo]) -> None:
        """Set what is used of a split, given what the check found."""
        table, reasons = self._read()[split], {video["video_id"]: video["reason"] for video in found}
        self._bad[split], self._lost[split] = found, {}
        if split == "train" and self._source.on_bad_video == "resample":  # they keep their place in the epoch
            rows = enumerate(video_list(table)["video_id"])
            self._lost[split] = {row: reasons[video_id] for row, video_id in rows if video_id in reasons}
            reasons = {}
        self._used[split] = without_videos(table, reasons)

    def _find_bad(self, tables: dict[str, pd.DataFrame]) -> list[BadVideo]:
        source = self._source
        if source.frame_cache is not None:
            return find_bad_clips(tables, source.frame_cache, source.image_size, source.fps, source.name)
        return find_bad_videos(tables, source.prepared or source.root, source.check_timeout)

    def _bad_of(self, split: str) -> list[BadVideo]:
        """What the check found, and what could not be read later."""
        bad = list(self._bad[split])
        known, videos = {video["video_id"] for video in bad}, video_list(self._used[split])
        for row, reason in sorted(self._lost[split].items()):
            video_id, path = (str(videos.loc[row, name]) for name in ("video_id", "path"))
            if video_id not in known:
                bad.append(BadVideo(video_id=video_id, path=path, reason=reason, split=split))
        return bad

    def _read(self) -> dict[str, pd.DataFrame]:
        """The tables as published, with a validation split; read once."""
        if self._published is not None:
            return self._published
        source = self._source
        _check_folder(source.root, source.next_step)
        tables = source.tables()
        if source.prepared is not None:
            from centerclip_pl.data.preparing import prepared_path

            _check_folder(source.prepared, source.files_step, "of prepared videos")
            for table in tables.values():
                table["path"] = [str(prepared_path(source.prepared, source.root, path)) for path in table["path"]]
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
        elif "train" in tables and source.val_videos != 0:
            tables["train"], tables["val"] = hold_out(tables["train"], source.val_videos)
        self._published = tables
        return tables


def _from_everyone(own: _T) -> list[_T]:
    """What each process has."""
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    everyone = [own] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    return everyone


def _check_folder(folder: Path, next_step: str, kind: str = "of the dataset") -> None:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"the folder {kind}, {folder}, {what}", next_step)


def _check_disjoint(root: Path, tables: dict[str, pd.DataFrame], one: str, other: str) -> None:
    if one in tables and other in tables:
        shared = set(tables[one]["video_id"]) & set(tables[other]["video_id"])
        if shared:
            some = ", ".join(sorted(shared)[:3])
            raise DataError(
                f"{root}: {len(shared)} video{'s are' if len(shared) > 1 else ' is'} in both {one} and {other}: {some}",
                "a video may be in one split only: correct the annotations",
            )
