"""Clips to frames, in processes that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from typing import NamedTuple

from centerclip_pl.data.frame_cache.worker import Request
from centerclip_pl.video.child import Child
from centerclip_pl.video.pool import ask_all

_WORKER = (sys.executable, "-m", "centerclip_pl.data.frame_cache.worker")


class ClipFrames(NamedTuple):
    """A clip's frames as they are stored, or why there are none."""

    video_id: str
    images: list[bytes]
    problem: str | None
    timed_out: bool


def decode_clips(requests: Mapping[str, tuple[Request, float]], jobs: int) -> Generator[ClipFrames, None, None]:
    """Decode clips in as many processes as there are jobs, in any order.

    At most ``2 * jobs + 1`` clips are in memory. A decoder that hangs or crashes takes its own process with it: the
    clip is reported, and the next one gets a fresh process. Closing the iterator ends all processes.

    Args:
        requests: by video id, with the seconds that each may take.
        jobs: processes.

    Raises:
        RuntimeError: the processes cannot start at all.
    """

    def ask(child: Child, video_id: str) -> ClipFrames:
        return _ask(child, video_id, *requests[video_id])

    yield from ask_all(list(requests), _WORKER, ask, jobs, waiting=jobs)


def _ask(child: Child, video_id: str, request: Request, timeout: float) -> ClipFrames:
    answer = child.ask(json.dumps(request), timeout)
    if answer["problem"] is not None:
        return ClipFrames(video_id, [], answer["problem"], "timeout" in answer)
    assert child.process is not None
    images = _read_images(child.process, answer["lengths"])
    if images is None:
        child.kill()
        return ClipFrames(video_id, [], "crashes the decoder (its process ended in the middle of the frames)", False)
    return ClipFrames(video_id, images, None, False)


def _read_images(process: subprocess.Popen[bytes], lengths: list[int]) -> list[bytes] | None:
    """What follows an answer; None where the process died. It has decoded everything, so it needs no time limit."""
    assert process.stdout is not None
    images: list[bytes] = []
    for length in lengths:
        image = bytearray(length)
        view = memoryview(image)
        while view:
            count = process.stdout.readinto(view)  # type: ignore[attr-defined]  # a raw file, as Child opens it
            if not count:
                return None
            view = view[count:]
        images.append(bytes(image))
    return images
