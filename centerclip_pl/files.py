"""Files that appear whole or not at all, and locks that end with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEBIBYTE = 2**20
_log = logging.getLogger(__name__)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file to write in place of `path`: put there when the block ends, removed if it fails.

    A reader sees the old file or the new one. Two processes that write the same path do not meet.

    Args:
        path: the file; its folder must exist.

    Yields:
        Where to write: beside `path`, under a name of this process alone.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # its folder may be gone, or not ours any more
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and str(error.filename or part) == str(part):
            with contextlib.suppress(AttributeError):  # PyAV's own cannot be changed
                error.filename = str(path)  # a full disk names none, others the one that nobody knows
        raise


def try_lock(file: int, path: str | Path) -> bool:
    """Whether this process now holds the lock on an open file or folder, until that is closed.

    Args:
        file: its descriptor.
        path: what to call it where it cannot be locked, as on some network file systems; that counts as held.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _log.warning("%s cannot be locked (%s): let no second process write there", path, error.strerror)
    return True


def mount_of(path: Path) -> Path:
    """Where the file system that holds a path, which may not be there yet, is mounted."""
    path = path.absolute()
    while not os.path.ismount(path):
        path = path.parent
    return path
