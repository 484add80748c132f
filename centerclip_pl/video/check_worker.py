"""The process that opens video files on behalf of :mod:`centerclip_pl.video.check`, and that may be killed.

Run as ``python -m centerclip_pl.video.check_worker``. Reads one request a line (JSON) from standard input, decodes the
first, the middle and the last frame, and answers each with one line of JSON on standard output. It is a program of its
own, not a ``multiprocessing`` child, because those import the caller's main script again: slow with torch in it, and
fatal in a script without ``if __name__ == "__main__"``. Decoders write where they like; they find both outputs closed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from centerclip_pl.errors import VideoError
from centerclip_pl.video.decode import decode
from centerclip_pl.video.sampling import head_indices, tail_indices, uniform_indices

_RULES = {"uniform": uniform_indices, "head": head_indices, "tail": tail_indices}


def first_middle_last(num_frames: int) -> list[int]:
    """Frames from which a bad count, a cut file and a damaged one show; training may ask for any frame."""
    return sorted({0, num_frames // 2, num_frames - 1})


def examine(request: str | dict[str, Any]) -> dict[str, Any]:
    """What the parent is told of one file: the fields of ``VideoInfo``, or ``problem``.

    Args:
        request: a path, or a path with what evaluation wants of it: ``num_frames``, ``sampling``, ``fps``, and
            optionally ``start`` and ``end`` in seconds. The first, middle and last of the frames so chosen are decoded;
            where they are chosen from the whole file, its own first, middle and last frame as well.
    """
    try:
        if isinstance(request, str):
            info = decode(request, first_middle_last).info
        else:
            start, end, fps = request.get("start"), request.get("end"), request["fps"]
            is_file = start is None and end is None and fps is None
            rule, count = _RULES[request["sampling"]], request["num_frames"]

            def choose(available: int) -> list[int]:
                taken = rule(available, count)[: min(available, count)]
                some = {taken[place] for place in first_middle_last(len(taken))}
                return sorted(some.union(first_middle_last(available)) if is_file else some)

            info = decode(request["path"], choose, start, end, fps=fps).info
        return {**info._asdict(), "problem": None}
    except VideoError as error:
        return {"problem": error.reason}
    except Exception as error:  # whatever else a decoder does on one file must not end the check of the others
        return {"problem": f"cannot be decoded ({type(error).__name__}: {str(error)[:200]})"}


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    try:
        # Now, so that the first file's time limit is for the file.
        from centerclip_pl.video.decoders import pyav  # noqa: F401
    except Exception as error:
        print(json.dumps({"fatal": f"PyAV cannot be imported: {error}"}), file=answers, flush=True)
        return
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(examine(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
