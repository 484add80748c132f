"""What is known of a file that was fetched: where from, when, and its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from centerclip_pl.data.download.partial import Version, unwritable
from centerclip_pl.errors import DataError
from centerclip_pl.files import replacing

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Record:
    """What is known of a file that was fetched, kept beside it as ``NAME.json``."""

    url: str
    size: int
    sha256: str
    etag: str | None
    last_modified: str | None
    fetched: str
    """When, in UTC, ISO 8601."""


def record_of(path: Path) -> Path:
    """Where the record of a file is."""
    return path.with_name(f"{path.name}.json")


def verified(file: Path, version: Version, digest: str | None, path: Path | None = None) -> Record:
    """The record of a file, kept as that of `path` where there was none.

    Raises:
        DataError: the file has another hash than the published one, or than the first time.
    """
    path = path or file
    about = record_of(path)
    kind, _, published = (digest or "").partition(":")
    hashes = _hashes(file, {"sha256", *([kind] if kind else [])})
    if digest is not None and hashes[kind] != published:
        raise DataError(
            f"{path}: its {kind} is {hashes[kind]}, published is {published}",
            f"delete {path} if it is there, and run the same command again; or fetch {version.url} by hand",
        )
    earlier = _read_record(about)
    if earlier is not None and earlier.sha256 != hashes["sha256"]:
        raise DataError(
            f"{path}: its sha256 is {hashes['sha256']}, that of {earlier.fetched} was {earlier.sha256}: it was "
            "damaged, or the owner has changed it",
            f"delete {path} if it is there; delete {about} as well if you trust what {version.url} gives now",
        )
    if earlier is not None:
        return earlier
    now = datetime.now(UTC).isoformat(timespec="seconds")
    size = file.stat().st_size
    record = Record(version.url, size, hashes["sha256"], version.etag, version.last_modified, now)
    try:
        with replacing(about) as part:
            part.write_text(json.dumps(asdict(record), indent=1) + "\n")
    except OSError as error:
        raise unwritable(about, error) from error
    return record


def _read_record(about: Path) -> Record | None:
    try:
        return Record(**json.loads(about.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{about} cannot be read: {error}", f"delete it if you trust {about.stem}") from error


def _hashes(path: Path, kinds: set[str]) -> dict[str, str]:
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    try:
        with path.open("rb") as stream:
            while data := stream.read(_CHUNK):
                for value in hashes.values():
                    value.update(data)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "look at the disk") from error
    return {kind: value.hexdigest() for kind, value in hashes.items()}
