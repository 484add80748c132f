"""What the system refuses, and no defect of this package: full disks, too many open files, folders of others."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from centerclip_pl.files import MEBIBYTE, mount_of

_STEPS = {
    errno.ENOSPC: "make room there; the same command with the same --run_dir then goes on",
    errno.EDQUOT: "make room within your quota; the same command with the same --run_dir then goes on",
    errno.EROFS: "name a folder that can be written: --run_dir=FOLDER",
    errno.EACCES: "see who may read and write it, or name another folder",
    errno.EMFILE: "allow more open files (ulimit -n 4096), or lower --data.num_workers",
    errno.ENFILE: "the whole machine has too many open files: end other programs, or ask its administrator",
    errno.EIO: "the disk or the network share fails: see to it (dmesg); last.ckpt is what was written last",
    errno.ESTALE: "the network share was away: mount it again; the same command with the same --run_dir then goes on",
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def system_message(error: BaseException) -> str | None:
    """One message about an error that comes from the system; None for all others, which keep their traceback.

    Looks through the causes, since libraries (torch's writer, pyarrow) hide it behind errors of their own.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _STEPS:
            where = f"{seen.filename}: " if seen.filename is not None else ""
            return f"{where}{os.strerror(seen.errno)}{_room(seen)}\n  -> {_STEPS[seen.errno]}"
        # In whose handling a defect happens is not its cause.
        wrapped = isinstance(seen, (OSError, RuntimeError, ValueError))
        seen = seen.__cause__ or (seen.__context__ if wrapped else None)
    return None


def _room(error: OSError) -> str:
    if error.errno not in _NO_ROOM or not isinstance(error.filename, str):
        return ""
    try:
        path = mount_of(Path(error.filename))
        free = shutil.disk_usage(path).free
    except OSError:
        return ""
    return f" ({free / MEBIBYTE:.1f} MiB are free on the file system of {path})"
