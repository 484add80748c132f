"""The process that decodes clips on behalf of :mod:`centerclip_pl.data.frame_cache.writing`, and that may be killed.

Run as ``python -m centerclip_pl.data.frame_cache.worker``. Speaks as :mod:`centerclip_pl.video.check_worker` does, but
that what it is asked is a request (JSON in a JSON string), and that behind the line of an answer without a problem come
the frames, whose lengths in bytes the line gives.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from centerclip_pl.errors import VideoError

_AT_ONCE = 64  # frames that are resized together


class Request(NamedTuple):
    """A clip to decode, and how."""

    path: str
    start: float | None
    end: float | None
    image_size: int
    fps: float | None
    encoding: str
    decoder: str


def frames_of(request: Request) -> list[bytes]:
    """All frames of a clip as they are stored.

    Raises:
        VideoError: it cannot be decoded.
    """
    from centerclip_pl.data.frame_cache.images import pack
    from centerclip_pl.video.decode import read_frames
    from centerclip_pl.video.transforms import resize_and_crop

    frames = read_frames(
        request.path, _every_frame, request.start, request.end, fps=request.fps, decoder=request.decoder
    )
    stored: list[bytes] = []
    for some in frames.split(_AT_ONCE):
        resized = resize_and_crop(some, request.image_size).numpy()
        stored += [pack(frame, request.encoding) for frame in resized]
    return stored


def _every_frame(available: int) -> Sequence[int]:
    return range(available)


def answer(line: str) -> tuple[dict[str, Any], list[bytes]]:
    """What the parent is told of one request, and the frames."""
    request = Request(*json.loads(json.loads(line)))
    try:
        frames = frames_of(request)
    except VideoError as error:
        return {"problem": error.reason}, []
    except Exception as error:  # whatever else a decoder does on one file must not end the writing of the others
        return {"problem": f"cannot be decoded ({type(error).__name__}: {str(error)[:200]})"}, []
    return {"problem": None, "lengths": [len(frame) for frame in frames]}, frames


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    try:
        import torch

        torch.set_num_threads(1)  # there are as many of these processes as processors
    except Exception as error:
        answers.write(json.dumps({"fatal": f"torch cannot be imported: {error}"}).encode() + b"\n")
        answers.flush()
        return
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    answers.write(json.dumps({"ready": True}).encode() + b"\n")
    answers.flush()
    for line in sys.stdin:
        head, frames = answer(line)
        answers.write(json.dumps(head).encode() + b"\n")
        for frame in frames:
            answers.write(frame)
        answers.flush()


if __name__ == "__main__":
    main()
