"""The folder of a cache while it is written: what is in it already, who writes to it, and its last file."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from centerclip_pl import __version__
from centerclip_pl.data.frame_cache.layout import (
    MANIFEST,
    SETTINGS,
    WRITING,
    CacheSettings,
    Clip,
    clips_from_parquet,
    clips_parquet,
    parse_json,
    settings_json,
    settings_of,
    shard_number,
)
from centerclip_pl.data.frame_cache.shards import to_disk, writing_to
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing, try_lock

_LIBRARIES = ("av", "decord", "numpy", "pillow", "pyarrow", "torch")


def refuse_other_content(folder: Path, settings: CacheSettings) -> None:
    """Whether `folder` is free, or holds a cache (or the beginning of one) with these settings.

    Raises:
        ConfigError: it holds something else.
        DataError: its settings cannot be read.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file", "name a folder with --out")
    complete, begun = folder / MANIFEST, folder / WRITING / SETTINGS
    if complete.is_file() or (begun.is_file() and any((folder / WRITING).glob("frames-*.parquet"))):
        file = complete if complete.is_file() else begun
        settings.refuse_others(settings_of(parse_json(file.read_bytes(), str(file)), str(file)), folder)
        return
    if begun.is_file():  # ended before anything was finished: nothing there is of these settings
        return
    if any(path.name != WRITING for path in folder.iterdir()):
        raise ConfigError(f"{folder} holds files that are no frame cache", "name a new or an empty folder with --out")


@contextmanager
def locked(folder: Path, settings: CacheSettings) -> Iterator[None]:
    """Make the folder, and be its one writer. The system takes the lock back from a process that was killed.

    Raises:
        ConfigError: another process writes there.
    """
    writing = folder / WRITING
    with writing_to(folder):
        writing.mkdir(parents=True, exist_ok=True)
        lock = (writing / "lock").open("w")
    with lock:
        if not try_lock(lock.fileno(), folder):
            raise ConfigError(f"another process writes {folder}", "wait for it, or end it")
        refuse_other_content(folder, settings)  # once more, where nobody else can be at it
        yield


def begin(folder: Path, settings: CacheSettings) -> None:
    """Note the settings of what is written from now on; in a :func:`locked` folder.

    Raises:
        DataError: they cannot be written.
    """
    with writing_to(folder), replacing(folder / WRITING / SETTINGS) as part:
        part.write_bytes(settings_json(settings))


def known_clips(folder: Path, verify: bool = False) -> dict[str, Clip]:
    """What is in the cache, finished or not, by video id. Removes what no table speaks of: shards that were cut short.

    Args:
        folder: of the cache.
        verify: whether to read all frames, and to leave out the clips whose checksums differ.

    Raises:
        DataError: the cache is damaged.
    """
    clips: dict[str, Clip] = {}
    with writing_to(folder):
        sizes = {path.name: path.stat().st_size for path in folder.glob("frames-*.arrow")}
        parts = sorted((folder / WRITING).glob("frames-*.parquet"))
        for lost in [part for part in parts if f"{part.stem}.arrow" not in sizes]:
            parts.remove(lost)
            lost.unlink()
    table = _table(folder)
    for file in [*([table] if table else []), *parts]:
        try:
            rows = clips_from_parquet(file)
        except (OSError, ValueError) as error:  # pyarrow's errors are one of these
            raise DataError(f"{file} cannot be read: {error}", f"remove {folder} and write it anew") from error
        clips.update((clip.video_id, clip) for clip in rows)
    whole = {
        video_id: clip
        for video_id, clip in clips.items()
        if clip.shard is None or sizes.get(clip.shard, 0) >= clip.offsets[-1]
    }
    if verify:
        whole = _sound(folder, whole)
    in_use = {clip.shard for clip in whole.values()}
    with writing_to(folder):
        for path in [*folder.glob(".*.part"), *(folder / WRITING).glob(".*.part"), *folder.glob("frames-*.arrow")]:
            if path.name not in in_use:
                (folder / WRITING / f"{path.stem}.parquet").unlink(missing_ok=True)
                path.unlink()
    return whole


def _sound(folder: Path, clips: Mapping[str, Clip]) -> dict[str, Clip]:
    """The clips whose frames are those that were written."""
    from tqdm import tqdm

    sound: dict[str, Clip] = {}
    for clip in tqdm(clips.values(), desc="reading frames", unit="clip", disable=None):
        if clip.shard is None or _is_sound(folder / clip.shard, clip):
            sound[clip.video_id] = clip
    return sound


def _is_sound(shard: Path, clip: Clip) -> bool:
    try:
        with shard.open("rb") as file:
            file.seek(clip.offsets[0])
            return all(
                zlib.crc32(file.read(end - start)) == checksum
                for start, end, checksum in zip(clip.offsets, clip.offsets[1:], clip.crc32, strict=False)
            )
    except OSError as error:  # a bad disk: writing these clips again would hide it
        raise DataError(
            f"{shard} cannot be read: {error.strerror or error}", "see whether the disk is well, or remove this file"
        ) from error


def next_shard(clips: Iterable[Clip]) -> int:
    """A number beyond those of all shards of these clips: where two shards hold a clip, the higher one is newer."""
    return 1 + max((shard_number(clip.shard) for clip in clips if clip.shard), default=-1)


def complete(folder: Path, settings: CacheSettings, clips: list[Clip], splits: Mapping[str, int]) -> None:
    """Make it a cache: the table of clips, then ``cache.json``, then what was needed only for writing goes.

    Args:
        folder: with all shards.
        settings: of the cache.
        clips: all of them.
        splits: number of clips by split, for people.

    Raises:
        DataError: it cannot be written.
    """
    before = _table(folder)
    stored = clips_parquet(clips)
    digest = hashlib.sha256(stored).hexdigest()
    name = f"clips-{digest[:16]}.parquet"
    good = [clip for clip in clips if clip.problem is None]
    manifest = settings_json(
        settings,
        clips=name,
        sha256=digest,
        counts={"clips": len(clips), "frames": sum(clip.frames for clip in good), "problems": len(clips) - len(good)},
        splits=dict(splits),
        versions={"centerclip_pl": __version__} | {library: version(library) for library in _LIBRARIES},
    )
    with writing_to(folder):
        for file, content in ((folder / name, stored), (folder / MANIFEST, manifest)):
            with replacing(file) as part:
                part.write_bytes(content)
                to_disk(part)
        if before is not None and before.name != name:
            before.unlink(missing_ok=True)
        for path in [*(folder / WRITING).glob("frames-*.parquet"), folder / WRITING / SETTINGS]:
            path.unlink(missing_ok=True)


def _table(folder: Path) -> Path | None:
    """The table of clips of a complete cache."""
    file = folder / MANIFEST
    return folder / str(parse_json(file.read_bytes(), str(file)).get("clips")) if file.is_file() else None
