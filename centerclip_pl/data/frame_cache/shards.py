"""Writes frames to shards, each of which appears whole or not at all."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from centerclip_pl.data.frame_cache.layout import (
    WRITING,
    CacheSettings,
    Clip,
    clips_parquet,
    frame_schema,
    shard_name,
)
from centerclip_pl.data.unwritable import cannot_write
from centerclip_pl.files import replacing

_MAGIC = 8  # bytes before the schema in an Arrow IPC file


class ShardWriter:
    """Appends clips to a shard, and begins the next one when it is large enough; a context manager.

    When a shard is finished, it gets its name, and then the rows of its clips are written to ``writing/``: what is
    listed there is on the disk. A shard that was not finished leaves nothing.

    Args:
        folder: of the cache, with its folder ``writing``.
        settings: of the cache.
        shard_bytes: a shard that has reached this size is finished.
        first: number of the first shard.
    """

    def __init__(self, folder: Path, settings: CacheSettings, shard_bytes: int, first: int) -> None:
        self._folder = folder
        self._schema = frame_schema(settings)
        self._shard_bytes = shard_bytes
        self._number = first
        self._clips: list[Clip] = []
        self._frames, self._end = 0, 0
        self._open: ExitStack | None = None
        self.finished: list[Clip] = []
        """The clips on the disk."""

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif self._open is not None:  # `replacing` removes the file; that closing it fails again is no news
            stack, self._open = self._open, None
            stack.__exit__(kind, error, trace)

    def add(self, clip: Clip, images: list[bytes]) -> None:
        """Write the frames of a clip, in their order.

        Raises:
            DataError: they cannot be written.
        """
        with writing_to(self._folder):
            self._add(clip, images)
        if self._end >= self._shard_bytes:
            self.finish()

    def _add(self, clip: Clip, images: list[bytes]) -> None:
        import pyarrow as pa

        if self._open is None:
            self._begin()
        offsets, checksums, first = [self._end], [], self._frames
        for frame, image in enumerate(images):
            columns = [pa.array([clip.video_id]), pa.array([frame], pa.int32()), pa.array([image], pa.binary())]
            batch = pa.record_batch(columns, schema=self._schema)
            stored = batch.serialize()  # the very bytes that write_batch appends
            self._writer.write_batch(batch)
            if self._sink.tell() != offsets[-1] + stored.size:
                raise RuntimeError(
                    f"pyarrow {pa.__version__} lays out record batches in another way than this reads them"
                )
            offsets.append(offsets[-1] + stored.size)
            checksums.append(zlib.crc32(stored))
        self._frames += len(images)
        self._end = offsets[-1]
        self._clips.append(
            clip._replace(
                frames=len(images),
                shard=shard_name(self._number),
                first_frame=first,
                offsets=offsets,
                crc32=checksums,
            )
        )

    def finish(self) -> None:
        """Give the shard its name, then write down what is in it; without an open shard, nothing.

        Raises:
            DataError: it cannot be written.
        """
        if self._open is None:
            return
        stack, self._open = self._open, None
        name = shard_name(self._number)
        with writing_to(self._folder):
            with stack:  # the file gets its name when this block ends
                self._writer.close()
                self._sink.close()
                to_disk(self._part)
            with replacing(self._folder / WRITING / f"{Path(name).stem}.parquet") as part:
                part.write_bytes(clips_parquet(self._clips))
                to_disk(part)
        self.finished += self._clips
        self._clips = []
        self._number += 1

    def _begin(self) -> None:
        import pyarrow as pa

        with ExitStack() as stack:
            self._part = stack.enter_context(replacing(self._folder / shard_name(self._number)))
            self._sink = stack.enter_context(pa.OSFile(str(self._part), "wb"))
            self._writer = pa.ipc.new_file(self._sink, self._schema)
            self._end, self._frames = _MAGIC + self._schema.serialize().size, 0
            self._open = stack.pop_all()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """What the system refuses while a cache is written, as a message.

    Raises:
        DataError: the disk is full, a quota is reached, the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(folder, error, "the shards that are finished are kept") from error


def to_disk(path: Path) -> None:
    """Have the system write out what it buffers of a file: a machine that loses its power keeps whole shards."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
