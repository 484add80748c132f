"""The process that transcodes on behalf of :mod:`centerclip_pl.data.preparing`, and that may be killed.

Run as ``python -m centerclip_pl.video.transcode_worker SETTINGS`` (JSON), and asked through
:class:`centerclip_pl.video.child.Child`. A request with ``target`` is answered with the fields of ``Transcoded``, one
without with ``duration`` in seconds, as the file's header says. ``problem`` is what is wrong with the source; ``fatal``
is what is wrong with the place to write to, which the other files will meet as well.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from typing import Any

from centerclip_pl.errors import VideoError
from centerclip_pl.video.transcode import Settings, playing_time, transcode

_OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),  # full, in one way or another
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOENT),
}


def answer(request: dict[str, str], settings: Settings) -> dict[str, Any]:
    """What the parent is told of one file."""
    try:
        if "target" not in request:
            return {"problem": None, "duration": playing_time(request["source"])}
        return {"problem": None, **transcode(request["source"], request["target"], settings)._asdict()}
    except VideoError as error:
        return {"problem": error.reason}
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            return {"problem": None, "fatal": error.strerror or str(error)}
        return {"problem": f"cannot be transcoded ({error})"}
    except Exception as error:  # whatever else a library does on one file must not end the work on the others
        return {"problem": f"cannot be transcoded ({type(error).__name__}: {str(error)[:200]})"}


def _end_with(parent: int) -> None:
    """A decoder that hangs would otherwise outlive a parent that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Answer until standard input ends."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    settings = Settings(**json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    silence = os.open(os.devnull, os.O_WRONLY)  # decoders write where they like
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), settings)), file=answers, flush=True)


if __name__ == "__main__":
    main()
