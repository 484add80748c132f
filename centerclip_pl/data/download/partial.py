"""The part of a file that has been fetched so far, which later processes can go on with."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from centerclip_pl.errors import DataError
from centerclip_pl.files import replacing, try_lock

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """What a server says of a file, by which a later answer is known to be about the same content."""

    url: str
    size: int | None = None
    """Bytes of the whole file; None: the server did not say."""
    etag: str | None = None
    last_modified: str | None = None

    @property
    def validator(self) -> str | None:
        """What the header If-Range takes: a strong ETag or a date; None: the server gave neither."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def differs_from(self, other: Version) -> bool:
        """Whether both say something of the same kind, and not the same."""
        pairs = (
            (self.size, other.size),
            (self.etag, other.etag),
            (self.last_modified, other.last_modified),
        )
        return any(mine is not None and theirs is not None and mine != theirs for mine, theirs in pairs)


class Partial:
    """The bytes at the beginning of a file, kept as ``NAME.part`` with their :class:`Version` in ``NAME.part.json``.

    A context manager that holds a lock, so that two processes do not write one file. All that is in the ``.part`` file
    is a true beginning of the version beside it, whenever the process ends: the version is written first, and bytes are
    only ever appended.

    Args:
        path: where the whole file is to be; its folder must exist.
        url: where it comes from. What came from elsewhere is not gone on with.

    Raises:
        DataError: another process is at it, or the folder cannot be written to.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._about = path.with_name(f"{path.name}.part.json")
        self.version = Version(url)

    def __enter__(self) -> Partial:
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            self._lock()
            self._remember()
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size == 0:  # nothing to go on with
            self.discard()
        os.close(self._file)

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return os.fstat(self._file).st_size

    def restart(self, version: Version) -> None:
        """Forget the bytes; those to come are of `version`."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        try:
            with replacing(self._about) as part:
                part.write_text(json.dumps(asdict(version)))
        except OSError as error:
            raise unwritable(self._about, error) from error
        self.version = version

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            DataError: the disk is full or fails; what has been written stays and can be gone on with.
        """
        append(self._file, data, self.path)

    def require_room(self, size: int) -> None:
        """
        Raises:
            DataError: the disk has less than `size` bytes left.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < size:
            raise DataError(
                f"{self.path.parent} has {in_units(free)} left on its disk; {in_units(size)} are needed",
                "make room, or name a folder on another disk: --data.root=FOLDER; the same command goes on from here",
            )

    def finish(self, path: Path) -> None:
        """Make the part the whole file."""
        try:
            os.fsync(self._file)
            os.replace(self.path, path)
        except OSError as error:
            raise unwritable(path, error) from error
        self._about.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the part."""
        self._about.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        busy = DataError(f"{self.path} is being fetched by another process", "wait for it, or end it")
        if not try_lock(self._file, self.path):
            raise busy
        # Between opening and locking, the other process may have finished and renamed the file.
        if not self.path.exists() or not os.path.samestat(os.fstat(self._file), self.path.stat()):
            raise busy

    def _remember(self) -> None:
        try:
            version = Version(**json.loads(self._about.read_text()))
        except FileNotFoundError:
            version = None
        except OSError as error:
            raise unwritable(self._about, error) from error
        except (ValueError, TypeError) as error:
            _log.warning("%s cannot be read (%s); starting anew", self._about, error)
            version = None
        if version is None or version.url != self.version.url or (version.size or self.size) < self.size:
            os.ftruncate(self._file, 0)
        else:
            self.version = version
        os.lseek(self._file, 0, os.SEEK_END)


def append(file: int, data: bytes, path: Path) -> None:
    """Write all of some bytes.

    Raises:
        DataError: the disk is full or fails; what has been written stays.
    """
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(file, left) :]
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> DataError:
    """The error for a file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"{path}: the disk is full, or your quota on it is used up",
            "make room; the same command then goes on from here",
        )
    return DataError(
        f"{path} cannot be written: {error.strerror or error}",
        "look at its permissions, or name another folder: --data.root=FOLDER",
    )


def in_units(size: float) -> str:
    """A number of bytes for people, in powers of 1000.

    >>> in_units(6_550_000_000)
    '6.55 GB'
    """
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:,.2f} GB"
