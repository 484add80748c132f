"""Which videos of a dataset cannot be used, and how to say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import pandas as pd

from centerclip_pl.data.captions import video_list
from centerclip_pl.data.wording import counted
from centerclip_pl.errors import DataError
from centerclip_pl.video.check import check_videos
from centerclip_pl.video.decode import MISSING

if TYPE_CHECKING:
    from centerclip_pl.data.frame_cache import FrameCache

_SHOWN = 5


class BadVideo(TypedDict):
    """One video that cannot be used, as results.json lists it."""

    video_id: str
    path: str
    reason: str
    split: str


def find_bad_videos(tables: Mapping[str, pd.DataFrame], root: str | Path, timeout: float) -> list[BadVideo]:
    """Check every video of these splits (see :func:`~centerclip_pl.video.check.check_videos`).

    Args:
        tables: caption tables by split.
        root: the folder of the dataset, where the manifest of checked files lies.
        timeout: seconds that one file may take.

    Returns:
        The videos that cannot be used, in the order of the tables; also those whose time span begins after the file
        has ended.
    """
    clips = {split: video_list(table) for split, table in tables.items()}
    checks = check_videos((path for videos in clips.values() for path in videos["path"]), root, timeout=timeout)
    bad: list[BadVideo] = []
    for split, videos in clips.items():
        for video_id, path, start, _ in videos.itertuples(index=False):
            check = checks[path]
            reason = check.problem
            if reason is None and start >= check.duration:  # False for NaN, the whole file
                reason = f"lasts {check.duration:.2f} s, so it has nothing from {start:g} s on"
            if reason is not None:
                bad.append(BadVideo(video_id=video_id, path=path, reason=reason, split=split))
    return bad


def find_bad_clips(
    tables: Mapping[str, pd.DataFrame],
    cache: FrameCache,
    image_size: int,
    fps: float | None,
    dataset: str | None = None,
) -> list[BadVideo]:
    """The videos of these splits that could not be decoded when a frame cache was written. No video file is looked at.

    Args:
        tables: caption tables by split.
        cache: where it is looked up.
        image_size: of the frames that are wanted, in pixels.
        fps: frames a second that are wanted; None: all.
        dataset: name of the dataset; None: any.

    Raises:
        ConfigError: the cache holds frames of another size or rate, or of another dataset.
        DataError: it cannot be read, is incomplete, or lacks some of the videos.
    """
    wanted = {split: video_list(table) for split, table in tables.items()}
    cache.check(pd.concat(wanted.values()), image_size, fps, dataset)
    problems = cache.clips.set_index("video_id")["problem"].dropna()
    return [
        BadVideo(video_id=video_id, path=path, reason=str(problems[video_id]), split=split)
        for split, videos in wanted.items()
        for video_id, path in videos[["video_id", "path"]].itertuples(index=False)
        if video_id in problems.index
    ]


def bad_videos_error(bad: Sequence[BadVideo], num_videos: int, layout: str) -> DataError:
    """One error for all of them: how many, the first few, and what to do.

    Args:
        bad: at least one.
        num_videos: of how many.
        layout: what to put where, for missing files.
    """
    missing = sum(video["reason"] == MISSING for video in bad)
    kinds = [f"{count:,} {kind}" for count, kind in ((missing, "missing"), (len(bad) - missing, "broken")) if count]
    lines = [f"{len(bad):,} of {counted(num_videos, 'video')} cannot be used ({', '.join(kinds)}):"]
    # Broken files first: of missing ones, one name tells as much as many.
    shown = sorted(bad, key=lambda video: video["reason"] == MISSING)[:_SHOWN]
    lines += [f"  {video['path']} ({video['split']}): {video['reason']}" for video in shown]
    if len(bad) > _SHOWN:
        lines.append(f"  ... and {len(bad) - _SHOWN:,} more")
    steps = [layout] if missing else []
    if missing < len(bad):
        steps.append(
            "Fetch the broken files again, or re-encode them (ffmpeg -i IN -c:v libx264 -pix_fmt yuv420p OUT)."
        )
    steps.append(
        "To go on without these videos, add --data.on_bad_video=drop: they are counted and listed in results.json."
    )
    return DataError("\n".join(lines), "\n     ".join(steps))
