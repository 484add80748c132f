"""What to say when the system refuses to write a file of a folder, and of how many bytes one speaks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from centerclip_pl.errors import DataError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def cannot_write(folder: Path, error: OSError | str, kept: str) -> DataError:
    """A message that asks for room only where room is what is missing.

    Args:
        folder: that was to be written.
        error: what the system said; as text where another process was told.
        kept: a clause about what is there already.
    """
    reason = error if isinstance(error, str) else error.strerror or str(error)
    if isinstance(error, str):
        no_room = error in [os.strerror(number) for number in _NO_ROOM]
    else:
        no_room = error.errno in _NO_ROOM
    if no_room:
        step = "make room there, or name a folder on another disk with --out"
    else:
        step = "see to it that this folder can be written, or name another one with --out"
    return DataError(
        f"{folder} cannot be written: {reason}; {kept}",
        f"{step}; then give the same command again: in the same folder, it goes on where it stopped",
    )


def shown_bytes(count: float) -> str:
    """
    >>> shown_bytes(560.4e9), shown_bytes(2.4e6), shown_bytes(1500)
    ('560.40 GB', '2.4 MB', '1.5 kB')
    """
    for unit, size, digits in (("GB", 1e9, 2), ("MB", 1e6, 1)):
        if count >= size:
            return f"{count / size:,.{digits}f} {unit}"
    return f"{count / 1e3:,.1f} kB"
