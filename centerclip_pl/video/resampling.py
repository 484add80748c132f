"""The frames of a file that are shown at regular times, one after the other, however long the file is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import av
import numpy as np

from centerclip_pl.errors import VideoError
from centerclip_pl.video.decoders.packets import NeedsExactReading, opened, read_packets, spans_by_decoding
from centerclip_pl.video.timeline import REPLACE

LONGEST = 24 * 3600.0
"""Seconds. A "video" that lasts longer has damaged times, and would become a file without end."""

_ROUNDING = 1e-3  # seconds; Matroska, WebM and FLV store times in whole milliseconds
_DAMAGED = "is damaged: some of its frames cannot be decoded"


class Shown(NamedTuple):
    """A decoded frame that is wanted."""

    frame: av.VideoFrame
    times: int
    """How often: more than once where it is shown for longer than one step."""
    pixel_aspect: Fraction | None
    """Width of a pixel over its height; None where the file does not say."""


def repeats_at(spans: np.ndarray, fps: float) -> np.ndarray:
    """How often each frame is shown when a video is sampled at regular times, from its first frame on.

    Args:
        spans: float64 ``[N, 2]``, start and end of each frame in seconds, ascending.
        fps: frames a second.

    Returns:
        int64 ``[N]`` with the sum ``ceil(duration * fps)``, at least 1. Zero where a frame falls between two times.
    """
    since_first = spans - spans[0, 0]
    count = max(1, math.ceil((since_first[-1, 1] - _ROUNDING) * fps))
    # The frame that is shown at a time is the last one that began before it.
    shown = np.searchsorted(since_first[:, 0], np.arange(count) / fps + _ROUNDING, side="right") - 1
    return np.bincount(shown, minlength=len(spans))


def frames_by_packets(path: str, fps: float) -> Iterator[Shown]:
    """The frames that are wanted, in order; of the others only those to which another frame refers are decoded.

    Args:
        path: the file.
        fps: frames a second.

    Yields:
        One or more. The sum of their ``times`` is ``ceil(duration * fps)``.

    Raises:
        NeedsExactReading: packets do not tell the frames of this file. Some frames may have been given before.
        VideoError: the file cannot be opened, has no video stream, is cut off, or says that it lasts for days.
    """
    with ExitStack() as stack:
        container, stream = stack.enter_context(opened(path))
        packets = read_packets(path, container, stream)
        _check_length(path, packets.spans)
        repeats = repeats_at(packets.spans, fps)
        wanted = {packets.pts[packets.order[index]]: int(repeats[index]) for index in np.flatnonzero(repeats)}
        source: Iterable[av.Packet] | None = packets.kept
        if source is None:  # too many bytes to keep
            container, stream = stack.enter_context(opened(path))
            source = container.demux(stream)
        codec, aspect = stream.codec_context, stream.sample_aspect_ratio
        latest: int | None = None
        try:
            for packet in chain((packet for packet in source if packet.size), [None]):
                codec.skip_frame = "DEFAULT" if packet is None or packet.pts in wanted else "NONREF"
                for frame in codec.decode(packet):
                    if latest is not None and frame.pts is not None and frame.pts < latest:
                        raise NeedsExactReading(len(packets.order))
                    latest = frame.pts if latest is None else latest if frame.pts is None else frame.pts
                    if frame.pts in wanted and not frame.is_corrupt:
                        yield Shown(frame, wanted.pop(frame.pts), aspect)
        except av.FFmpegError as error:  # perhaps for want of a packet that was left out; reading all of them tells
            raise NeedsExactReading(len(packets.order)) from error
        if wanted:
            raise NeedsExactReading(len(packets.order))


def frames_from_start(path: str, fps: float, packets: int) -> Iterator[Shown]:
    """The frames that are wanted, by two passes over all frames; the first one finds out when each is shown.

    Args:
        path: the file.
        fps: frames a second.
        packets: how many frames are to be expected.

    Yields:
        As :func:`frames_by_packets`.

    Raises:
        VideoError: a frame that is wanted, or half of all frames, cannot be decoded.
    """
    try:
        spans = spans_by_decoding(path, packets)
        _check_length(path, spans)
        repeats = repeats_at(spans, fps).tolist()
        with opened(path) as (container, stream):
            aspect = stream.sample_aspect_ratio
            for frame, times in zip(container.decode(stream), repeats, strict=False):
                if times and frame.is_corrupt:
                    raise VideoError(path, _DAMAGED, REPLACE)
                if times:
                    yield Shown(frame, times, aspect)
    except av.FFmpegError as error:
        raise VideoError(path, _DAMAGED, REPLACE) from error


def _check_length(path: str, spans: np.ndarray) -> None:
    duration = float(spans[-1, 1] - spans[0, 0])
    if duration > LONGEST:
        raise VideoError(path, f"is damaged: its times say that it lasts {duration / 3600:.0f} hours", REPLACE)
