"""Frames out of a frame cache, near or far."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from centerclip_pl.data.frame_cache.images import unpack
from centerclip_pl.data.frame_cache.layout import (
    ANEW,
    CLIP_COLUMNS,
    MANIFEST,
    REPAIR,
    VERIFY,
    CacheSettings,
    frame_schema,
    parse_json,
    settings_of,
)
from centerclip_pl.data.frame_cache.storage import AbsentFileError, Storage, open_storage
from centerclip_pl.errors import ConfigError, DataError, VideoError
from centerclip_pl.video.decode import Choose

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

_SHOWN = 5
_PLACES = ("shard", "offsets", "crc32")


class FrameCache:
    """The frames that ``centerclip data cache`` wrote.

    Cheap to make and to send to other processes: what it opens, it opens when it is first asked, once in each process.
    Any number of processes may read a cache.

    Args:
        path: the folder, or an address that fsspec knows, e.g. ``s3://bucket/folder``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._opened: _Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}

    @property
    def settings(self) -> CacheSettings:
        """Dataset, image size, frames a second, encoding, decoder.

        Raises:
            DataError: there is no complete cache.
        """
        return self._open().settings

    @property
    def clips(self) -> pd.DataFrame:
        """A row for each clip: ``video_id``, ``path`` (from the dataset's folder), ``start``, ``end`` (seconds or NaN),
        ``frames``, and ``problem``, which is None for a clip that can be read.

        Raises:
            DataError: there is no complete cache.
        """
        return self._open().clips.copy()

    def read(self, video_id: str, choose: Choose) -> Tensor:
        """The chosen frames of a clip; only they are read.

        Args:
            video_id: whose frames.
            choose: told how many frames the clip has, returns the wanted indices, ascending, repetitions allowed.

        Returns:
            uint8 ``[R, 3, S, S]``, RGB, contiguous; ``S`` is the cache's image size.

        Raises:
            VideoError: the clip's source could not be decoded when the cache was written.
            DataError: no complete cache, no such clip, or a shard that is absent, cut off or damaged.
        """
        import torch

        cache = self._open()
        row = cache.rows.get(video_id)
        if row is None:
            raise DataError(f"{self.path} has no clip {video_id!r}", "write it with `centerclip data cache`")
        source, frames, problem = cache.facts[row]
        if problem is not None:
            raise VideoError(
                source,
                f"{problem} (found when {self.path} was written)",
                "replace the file, then give the command again that wrote the cache (`centerclip data cache`)",
            )
        wanted = np.asarray(choose(frames), dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < frames:
            raise IndexError(f"{video_id} has frames 0 to {frames - 1}; asked for {wanted.tolist()}")
        size = cache.settings.image_size
        out = np.empty((len(wanted), 3, size, size), dtype=np.uint8)
        shard = cache.columns["shard"][row].as_py()
        offsets = cache.columns["offsets"][row].values.to_numpy()
        checksums = cache.columns["crc32"][row].values.to_numpy()
        spans = [(int(offsets[frame]), int(offsets[frame + 1])) for frame in wanted]
        for k, stored in enumerate(cache.storage.ranges(shard, spans) if spans else ()):
            frame, (start, end) = int(wanted[k]), spans[k]
            if len(stored) > end - start:
                raise DataError(
                    f"{self.path}/{shard}: {len(stored):,} bytes came where {end - start:,} were asked for",
                    "the server ignores the header Range: use one that answers it, or copy the cache to a folder",
                )
            if len(stored) < end - start:
                raise DataError(f"{self.path}/{shard} is cut off: it ends before byte {end:,}", REPAIR)
            if zlib.crc32(stored) != checksums[frame]:
                raise DataError(
                    f"{self.path}/{shard} is damaged: frame {frame} of {video_id} has another checksum", VERIFY
                )
            _unpack(stored, cache, video_id, frame, out[k], f"{self.path}/{shard}")
        return torch.from_numpy(out)

    def check_options(self, image_size: int, fps: float | None) -> None:
        """Whether this cache holds frames as they are wanted.

        Args:
            image_size: height and width in pixels.
            fps: frames a second; None: every frame of the file.

        Raises:
            ConfigError: it holds others.
            DataError: there is no complete cache.
        """
        settings = self.settings
        if settings.image_size != image_size:
            raise ConfigError(
                f"{self.path} holds frames of {settings.image_size} pixels; {image_size} are wanted",
                f"write another cache, with --data.image_size={image_size}",
            )
        if settings.fps != fps:
            option = "null" if settings.fps is None else f"{settings.fps:g}"
            held, wanted = (
                "every frame of the files" if rate is None else f"{rate:g} frames a second"
                for rate in (settings.fps, fps)
            )
            raise ConfigError(
                f"{self.path} holds {held}; the run wants {wanted}",
                f"add --data.fps={option}, or write another cache",
            )

    def check(self, videos: pd.DataFrame, image_size: int, fps: float | None, dataset: str | None = None) -> None:
        """Whether a run can read all its clips here; looks at the table, and near at hand also for each shard's size.

        Clips that could not be decoded are there, with their ``problem``: what is done about them is the caller's.

        Args:
            videos: ``video_id``, ``start`` and ``end`` (seconds or NaN).
            image_size: height and width in pixels.
            fps: frames a second; None: every frame of the file.
            dataset: its name; None: of whatever dataset the cache is.

        Raises:
            ConfigError: the cache is one of another dataset, or holds frames of another size or rate.
            DataError: no complete cache, clips that are absent or have another time span, a shard that is absent or
                cut off.
        """
        cache = self._open()
        if dataset not in (None, cache.settings.dataset):
            raise ConfigError(
                f"{self.path} is the cache of another dataset: {cache.settings.dataset}; the run reads {dataset}",
                f"name the cache of {dataset} with --data.cache, or write one: centerclip data cache {dataset} "
                "--out=ANOTHER_FOLDER",
            )
        self.check_options(image_size, fps)
        absent: list[str] = []
        for video_id, start, end in videos[["video_id", "start", "end"]].itertuples(index=False):
            row = cache.rows.get(video_id)
            if row is None:
                absent.append(f"{video_id}: is not in it")
            elif not np.array_equal(cache.spans[row], np.array([start, end], dtype=np.float64), equal_nan=True):
                absent.append(f"{video_id}: is there with other times (start, end: {cache.spans[row].tolist()})")
        if absent:
            more = [f"... and {len(absent) - _SHOWN:,} more"] if len(absent) > _SHOWN else []
            raise DataError(
                "\n  ".join([f"{self.path} lacks {len(absent):,} of {len(videos):,} clips:", *absent[:_SHOWN], *more]),
                "call `centerclip data cache` again: it writes what is missing"
                if len(absent) < len(videos)
                else f"see whether it is the cache of these captions (it is one of {cache.settings.dataset})",
            )
        self.check_shards()

    def check_shards(self) -> None:
        """Whether every shard is there and long enough. Object stores are not asked, which would take long.

        Raises:
            DataError: no complete cache, or a shard that is absent or cut off.
        """
        cache = self._open()
        for shard, size in cache.shard_bytes.items():
            found = cache.storage.size(shard)
            if found is not None and found < size:
                raise DataError(f"{self.path}/{shard} is cut off: {found:,} bytes of {size:,}", REPAIR)

    def _open(self) -> _Opened:
        if self._opened is None:
            self._opened = _open(self.path)
        elif self._opened.process != os.getpid():  # after a fork the table is the same, but no open file or connection
            self._opened = self._opened._replace(process=os.getpid(), storage=open_storage(self.path))
        return self._opened


class _Opened(NamedTuple):
    process: int
    storage: Storage
    settings: CacheSettings
    schema: pa.Schema
    clips: pd.DataFrame
    spans: np.ndarray
    """float64 ``[clips, 2]``."""
    rows: dict[str, int]
    facts: list[tuple[str, int, str | None]]
    """Source, number of frames and problem of each clip."""
    columns: dict[str, Any]
    """Arrow columns: 12 bytes a frame, where lists in Python would take 10 times as much."""
    shard_bytes: dict[str, int]
    """The least that each shard must have."""


def _open(path: str) -> _Opened:
    import pyarrow.parquet as pq

    storage = open_storage(path)
    source = f"{path}/{MANIFEST}"
    try:
        text = storage.read(MANIFEST)
    except AbsentFileError as error:
        raise DataError(
            f"{path} is not a complete frame cache: {error.problem}",
            "write it, or go on with writing it: centerclip data cache DATASET --out=FOLDER",
        ) from error
    manifest = parse_json(text, source)
    settings = settings_of(manifest, source)
    name = str(manifest.get("clips"))
    stored = storage.read(name)
    if hashlib.sha256(stored).hexdigest() != manifest.get("sha256"):
        raise DataError(f"{path}/{name} is not the table that {source} describes", ANEW)
    try:
        table = pq.read_table(io.BytesIO(stored), columns=list(CLIP_COLUMNS)).combine_chunks()
    except (OSError, ValueError) as error:  # pyarrow's errors are one of these
        raise DataError(f"{path}/{name} cannot be read: {error}", ANEW) from error
    public = table.drop_columns([*_PLACES, "first_frame", "size", "mtime_ns", "timeout"]).to_pandas()
    public["problem"] = public["problem"].astype(object).where(public["problem"].notna(), None)
    columns = {column: _one_chunk(table.column(column)) for column in _PLACES}
    shard_bytes: dict[str, int] = {}
    for shard, offsets in zip(columns["shard"], columns["offsets"], strict=True):
        if shard.is_valid:
            shard_bytes[shard.as_py()] = max(shard_bytes.get(shard.as_py(), 0), offsets[-1].as_py())
    return _Opened(
        process=os.getpid(),
        storage=storage,
        settings=settings,
        schema=frame_schema(settings),
        clips=public,
        spans=public[["start", "end"]].to_numpy(dtype=np.float64),
        rows={video_id: row for row, video_id in enumerate(public["video_id"])},
        facts=list(zip(public["path"], public["frames"].tolist(), public["problem"], strict=True)),
        columns=columns,
        shard_bytes=shard_bytes,
    )


def _one_chunk(column: Any) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _unpack(stored: bytes, cache: _Opened, video_id: str, frame: int, out: np.ndarray, shard: str) -> None:
    """One record batch to one frame."""
    import pyarrow as pa

    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(stored), cache.schema)
        if batch.column(0)[0].as_py() != video_id or batch.column(1)[0].as_py() != frame:
            raise ValueError("another frame is in its place")
        unpack(memoryview(batch.column(2)[0].as_buffer()), cache.settings.encoding, out)
    except (OSError, ValueError) as error:  # pyarrow's and Pillow's are one of these
        raise DataError(f"{shard} is damaged: frame {frame} of {video_id}: {error}", VERIFY) from error
