"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    except BaseException:
        part.unlink(missing_ok=True)
        raise
