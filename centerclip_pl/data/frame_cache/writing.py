"""Writes a frame cache, or what is missing of one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from centerclip_pl.cores import usable_cores
from centerclip_pl.data.bad_videos import BadVideo, bad_videos_error, find_bad_videos
from centerclip_pl.data.captions import video_list
from centerclip_pl.data.frame_cache.decoding import decode_clips
from centerclip_pl.data.frame_cache.images import stored_bytes
from centerclip_pl.data.frame_cache.layout import CacheSettings, Clip
from centerclip_pl.data.frame_cache.shards import ShardWriter
from centerclip_pl.data.frame_cache.state import begin, complete, known_clips, locked, next_shard, refuse_other_content
from centerclip_pl.data.frame_cache.worker import Request
from centerclip_pl.data.unwritable import shown_bytes
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.video.check import check_videos
from centerclip_pl.video.manifest import VideoCheck

_MB = 10**6


class Plan(NamedTuple):
    """What is about to be written."""

    clips: int
    """Clips of the cache, bad ones included."""
    todo: int
    """Clips that are not in it yet."""
    frames: int
    """Their frames, about."""
    size: int
    """Their bytes; for JPEG about."""
    free: int
    """Bytes that the disk has."""


class Written(NamedTuple):
    """What there is now."""

    clips: int
    new: int
    """Clips that were decoded now."""
    frames: int
    size: int
    """Bytes of all frames."""
    bad: list[BadVideo]
    """Clips without frames."""


def write_cache(
    tables: Mapping[str, pd.DataFrame],
    root: Path,
    out: Path,
    settings: CacheSettings,
    *,
    check_timeout: float = 30.0,
    on_bad_video: str = "error",
    layout: str = "",
    size_mb: int = 256,
    jobs: int | None = None,
    verify: bool = False,
    announce: Callable[[Plan], None] = lambda plan: None,
) -> Written:
    """Write every clip of these tables that ``out`` does not hold yet; then, and only then, it is a cache.

    Killed at any moment, the next call goes on after the last shard that was finished. A complete cache stays readable
    while clips are added to it. A clip is written again where its source has changed.

    Args:
        tables: caption tables by split.
        root: folder of the videos, from which paths are kept.
        out: folder of the cache.
        settings: of the cache.
        check_timeout: seconds that the check of a file may take. Decoding a whole clip may take a second for each
            second that it lasts more.
        on_bad_video: ``"error"``: files that cannot be decoded end this with a list, and there is no cache yet; else
            they are listed in the cache, with the reason.
        layout: what to put where, for the message about missing files.
        size_mb: megabytes after which a shard is finished.
        jobs: processes that decode; None: as many as there are processors.
        verify: read all frames that are there, and write the clips anew whose checksums differ.
        announce: told what is about to be written, before the disk is asked for room.

    Raises:
        ConfigError: an option that cannot work, or a folder that holds something else.
        DataError: bad videos, too little room, or a disk that is full.
        RuntimeError: the processes that decode cannot start at all.
    """
    if size_mb < 1:
        raise ConfigError(f"size_mb={size_mb}: a shard has at least 1 megabyte", "leave it out, or use e.g. 256")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: at least one process is needed", "leave it out: one for each processor")
    refuse_other_content(out, settings)
    videos = _distinct_clips(tables)
    bad = find_bad_videos(tables, root, check_timeout)
    if bad and on_bad_video == "error":
        raise bad_videos_error(bad, len(videos), layout)
    checks = check_videos(videos["path"], root, timeout=check_timeout, progress=False)
    reasons = {video["video_id"]: video["reason"] for video in bad}
    wanted = {clip.video_id: clip for clip in _clips(videos, root, checks, reasons)}
    with locked(out, settings):
        have = known_clips(out, verify)
        settled = {
            video_id: have[video_id]
            for video_id, clip in wanted.items()
            if video_id in have and _still_holds(have[video_id], clip, check_timeout, on_bad_video)
        }
        todo: dict[str, tuple[Request, float]] = {}
        frames = 0
        for video_id, path, start, end in videos.itertuples(index=False):
            if video_id not in settled and wanted[video_id].problem is None:
                seconds, count = _length(checks[path], start, end, settings.fps)
                todo[video_id] = (_request(path, start, end, settings), check_timeout + seconds)
                frames += count
        announce(plan := _plan(out, settings, len(wanted), len(todo), frames))
        _refuse_too_much(out, plan)
        begin(out, settings)
        limits = {"size_mb": size_mb, "jobs": jobs or usable_cores()}
        new = {
            **wanted,
            **settled,
            **_decode(out, settings, wanted, todo, next_shard(have.values()), check_timeout, **limits),
        }
        split_of = {video_id: split for split, table in tables.items() for video_id in table["video_id"]}
        without = [
            BadVideo(video_id=clip.video_id, path=clip.path, reason=clip.problem, split=split_of[clip.video_id])
            for clip in new.values()
            if clip.problem is not None
        ]
        if without and on_bad_video == "error":
            raise bad_videos_error(without, len(videos), layout)
        splits = {split: int(table["video_id"].nunique()) for split, table in tables.items()}
        complete(out, settings, list({**have, **new}.values()), splits)  # what only other splits hold stays
    return Written(
        clips=len(new),
        new=len(todo),
        frames=sum(clip.frames for clip in new.values()),
        size=sum(clip.offsets[-1] - clip.offsets[0] for clip in new.values() if clip.offsets),
        bad=without,
    )


def _plan(out: Path, settings: CacheSettings, clips: int, todo: int, frames: int) -> Plan:
    size = frames * stored_bytes(settings.image_size, settings.encoding)
    return Plan(clips, todo, frames, size, shutil.disk_usage(out).free)


def _refuse_too_much(out: Path, plan: Plan) -> None:
    if plan.size > plan.free:
        raise DataError(
            f"{out}: about {shown_bytes(plan.size)} are to be written, and the disk has {shown_bytes(plan.free)}",
            "name a folder on another disk, or write less: --encoding=jpeg, --data.fps=1",
        )


def _decode(
    out: Path,
    settings: CacheSettings,
    wanted: Mapping[str, Clip],
    todo: Mapping[str, tuple[Request, float]],
    first_shard: int,
    check_timeout: float,
    *,
    size_mb: int,
    jobs: int,
) -> dict[str, Clip]:
    """Decode and write what is to be done; the clips with their places, or their problems."""
    failed: dict[str, Clip] = {}
    with ShardWriter(out, settings, size_mb * _MB, first_shard) as shards, closing(decode_clips(todo, jobs)) as results:
        for result in tqdm(
            results, total=len(todo), desc="writing frames", unit="clip", disable=None if todo else True
        ):
            clip = wanted[result.video_id]
            if result.problem is None:
                shards.add(clip, result.images)
            else:
                limit = check_timeout if result.timed_out else None
                failed[clip.video_id] = clip._replace(problem=result.problem, timeout=limit)
    return failed | {clip.video_id: clip for clip in shards.finished}


def _distinct_clips(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a video of all splits; a video may be in several."""
    videos = pd.concat([video_list(table) for table in tables.values()]).drop_duplicates(ignore_index=True)
    repeated = videos.loc[videos["video_id"].duplicated(), "video_id"].tolist()
    if repeated:
        raise DataError(
            f"video_id {repeated[0]} has another file or time span in another split ({len(repeated)} such ids)",
            "write one cache a split, with --splits and --out",
        )
    return videos


def _clips(
    videos: pd.DataFrame, root: Path, checks: Mapping[str, VideoCheck], reasons: Mapping[str, str]
) -> list[Clip]:
    """The clips as they are wanted, still without frames."""
    clips = []
    for video_id, path, start, end in videos.itertuples(index=False):
        source = Path(path)
        shown = str(source.relative_to(root)) if source.is_relative_to(root) else path
        check = checks[path]
        span = (_second(start), _second(end))
        clips.append(Clip(video_id, shown, *span, check.size, check.mtime_ns, problem=reasons.get(video_id)))
    return clips


def _still_holds(have: Clip, wanted: Clip, timeout: float, on_bad_video: str) -> bool:
    """Whether a clip in the cache is the wanted one, and nothing speaks for trying it again."""
    if have[1:6] != wanted[1:6]:  # path, span, size and time of the source
        return False
    if have.problem is None:
        return True
    return on_bad_video != "error" and (have.timeout is None or timeout <= have.timeout)


def _length(check: VideoCheck, start: float, end: float, fps: float | None) -> tuple[float, int]:
    """Seconds of a clip, and its frames, about."""
    begin = 0.0 if np.isnan(start) else start
    seconds = (check.duration if np.isnan(end) else min(end, check.duration)) - begin
    whole = check.num_frames * seconds / max(check.duration, 1e-6)
    return seconds, max(1, round(whole if fps is None else min(whole, seconds * fps)))


def _request(path: str, start: float, end: float, settings: CacheSettings) -> Request:
    return Request(
        path=str(Path(path).absolute()),
        start=_second(start),
        end=_second(end),
        image_size=settings.image_size,
        fps=settings.fps,
        encoding=settings.encoding,
        decoder=settings.decoder,
    )


def _second(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
