"""Clips to frames, in processes that can be killed."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from typing import NamedTuple

from centerclip_pl.data.frame_cache.worker import Request
from centerclip_pl.video.check import Child

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
    pending: queue.SimpleQueue[str] = queue.SimpleQueue()
    for video_id in requests:
        pending.put(video_id)
    done: queue.Queue[ClipFrames | Exception] = queue.Queue(maxsize=jobs)
    stop = threading.Event()

    def serve(child: Child) -> None:
        try:
            while not stop.is_set():
                try:
                    video_id = pending.get_nowait()
                except queue.Empty:
                    return
                done.put(_ask(child, video_id, *requests[video_id]))
        except Exception as error:  # handed to the caller's thread, which raises it
            done.put(error)
        finally:
            child.kill()

    children = [Child(_WORKER) for _ in range(min(jobs, len(requests)))]
    threads = [threading.Thread(target=serve, args=(child,), daemon=True) for child in children]
    for thread in threads:
        thread.start()
    try:
        for _ in requests:
            result = done.get()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        stop.set()
        for child in children:
            child.interrupt()
        while any(thread.is_alive() for thread in threads):  # one may wait for room in the queue
            try:
                done.get(timeout=0.05)
            except queue.Empty:
                continue


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
