"""What is in the folder of a frame cache.

- ``frames-00000.arrow``, ...: the shards, Arrow IPC files with one frame a record batch. They never change.
- ``clips-<hash>.parquet``: one row a clip: where it comes from, in which shard it is, and the place and the checksum of
  each of its frames. The name holds a hash of the content.
- ``cache.json``: settings and counts, and the name of the table. It is written last: without it, there is no cache.
- ``writing/``: while it is written, the settings, and of each shard that is finished the rows of its clips.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from centerclip_pl.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "centerclip-frame-cache"
FORMAT_VERSION = 2  # 1 did not say what the frames were decoded from
MANIFEST = "cache.json"
WRITING = "writing"
SETTINGS = "settings.json"
ANEW = "write it anew: remove the folder and run `centerclip data cache` again"
REPAIR = "give the `centerclip data cache` command that wrote it again: it writes what is missing, and only that"
VERIFY = "give the `centerclip data cache` command that wrote it again, with --verify=true: it mends what is damaged"

Encoding = Literal["raw", "jpeg"]

CLIP_COLUMNS = (
    "video_id",
    "path",
    "start",
    "end",
    "size",
    "mtime_ns",
    "frames",
    "problem",
    "timeout",
    "shard",
    "first_frame",
    "offsets",
    "crc32",
)
"""Columns of the table of clips.

``path`` is relative to the dataset's folder, ``size`` (bytes) and ``mtime_ns`` are those of the source when it was
read; ``first_frame`` is the clip's first record batch in its ``shard``, and its frame ``k`` takes bytes
``offsets[k]`` to ``offsets[k + 1]`` there, whose zlib CRC-32 is ``crc32[k]``. A clip with a ``problem`` has no frames;
``timeout`` is the time limit (seconds) where that was the problem.
"""


_KINDS: dict[str, tuple[type, ...]] = {
    "dataset": (str,),
    "image_size": (int,),
    "fps": (int, float, type(None)),
    "encoding": (str,),
    "decoder": (str,),
    "source": (str,),
}


class CacheSettings(NamedTuple):
    """What makes two caches different."""

    dataset: str
    image_size: int
    """Height and width in pixels."""
    fps: float | None
    """Frames a second that were sampled; None: every frame of the file."""
    encoding: str
    """``"raw"`` or ``"jpeg"``."""
    decoder: str
    source: str = "published"
    """What was decoded: ``"published"``, or how the videos were prepared. A reader need not care."""

    def refuse_others(self, found: CacheSettings, folder: Path) -> None:
        """Whether what is in `folder` can be gone on with.

        Raises:
            ConfigError: it was begun with other settings.
        """
        differ = [name for name in self._fields if getattr(self, name) != getattr(found, name)]
        if differ:
            listed = ", ".join(f"{name}={getattr(found, name)} (now {getattr(self, name)})" for name in differ)
            raise ConfigError(
                f"{folder} holds a frame cache with other settings: {listed}",
                "name another folder with --out, remove this one, or use its settings",
            )


def settings_of(fields: Mapping[str, Any], source: str) -> CacheSettings:
    """Settings out of a JSON object.

    Args:
        fields: the object; other keys are ignored.
        source: its file, for messages.

    Raises:
        DataError: it describes no frame cache, or one of a version that is not known here.
    """
    if fields.get("format") != FORMAT:
        raise DataError(f"{source} describes no frame cache", "name the folder that `centerclip data cache` wrote")
    version = fields.get("format_version")
    if version != FORMAT_VERSION:
        raise DataError(f"{source}: format version {version}; this program reads version {FORMAT_VERSION}", ANEW)
    try:
        settings = CacheSettings(*(fields[name] for name in CacheSettings._fields))
    except KeyError as error:
        raise DataError(f"{source}: {error.args[0]} is missing", ANEW) from error
    for name, kinds in _KINDS.items():
        value = getattr(settings, name)
        if not isinstance(value, kinds) or isinstance(value, bool) or (name in ("image_size", "fps") and value == 0):
            raise DataError(f"{source}: {name} is {value!r}"[:500], ANEW)
    return settings


def settings_json(settings: CacheSettings, **more: Any) -> bytes:
    """The JSON file for these settings."""
    return json.dumps(
        {"format": FORMAT, "format_version": FORMAT_VERSION, **settings._asdict(), **more}, indent=2
    ).encode()


def parse_json(text: bytes, source: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: it is none.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON ({error})", ANEW) from error
    if not isinstance(fields, dict):
        raise DataError(f"{source} is not a JSON object", ANEW)
    return fields


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"frames-{number:05d}.arrow"


def shard_number(name: str) -> int:
    """The number in a name that :func:`shard_name` gave."""
    return int(name.removeprefix("frames-").removesuffix(".arrow"))


def frame_schema(settings: CacheSettings) -> pa.Schema:
    """Columns of a shard: whose frame it is, which one, and its bytes (see ``images``)."""
    import pyarrow as pa

    fields = [("video_id", pa.string()), ("frame", pa.int32()), ("image", pa.binary())]
    return pa.schema(fields, metadata={"centerclip": settings_json(settings)})


def clip_schema() -> pa.Schema:
    """Types of the table of clips."""
    import pyarrow as pa

    types: dict[str, Any] = {
        "start": pa.float64(),
        "end": pa.float64(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "frames": pa.int32(),
        "timeout": pa.float64(),
        "first_frame": pa.int64(),
        "offsets": pa.list_(pa.int64()),
        "crc32": pa.list_(pa.uint32()),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in CLIP_COLUMNS])


class Clip(NamedTuple):
    """A row of the table of clips; see ``CLIP_COLUMNS``."""

    video_id: str
    path: str
    start: float | None
    end: float | None
    size: int
    mtime_ns: int
    frames: int = 0
    problem: str | None = None
    timeout: float | None = None
    shard: str | None = None
    first_frame: int = 0
    offsets: list[int] = []
    crc32: list[int] = []


def clips_parquet(clips: list[Clip]) -> bytes:
    """The table of these clips as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [getattr(clip, name) for clip in clips] for name in CLIP_COLUMNS}
    file = io.BytesIO()
    pq.write_table(pa.table(columns, schema=clip_schema()), file, compression="zstd")
    return file.getvalue()


def clips_from_parquet(path: Path) -> list[Clip]:
    """The clips in a file that :func:`clips_parquet` gave; OSError or ValueError where it is no such file."""
    import pyarrow.parquet as pq

    return [Clip(**row) for row in pq.read_table(path, columns=list(CLIP_COLUMNS)).to_pylist()]
