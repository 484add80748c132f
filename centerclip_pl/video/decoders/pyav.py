"""PyAV: FFmpeg's own view of a file, and the fastest exact way to a few frames of it.

All packets are read, which costs little beside decoding, so every frame's time is known and its packet too. Then only
those packets are decoded that a wanted frame needs: from the key frame before it on, and of those not the ones to
which no other frame refers (B frames, mostly). Where packets and frames do not correspond, the file is decoded from
start to end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import av
import numpy as np
from av.video.stream import VideoStream

from centerclip_pl.errors import VideoError
from centerclip_pl.video.decoders.packets import NeedsExactReading, Packets, opened, read_packets, spans_by_decoding
from centerclip_pl.video.decoders.turning import display_matrix, upright
from centerclip_pl.video.timeline import REPLACE, Decoded, Request, decoded


def decode(request: Request) -> Decoded:
    """See :func:`centerclip_pl.video.decode.decode`."""
    try:
        with opened(request.path) as (container, stream):
            packets = read_packets(request.path, container, stream)
            indices = request.indices(packets.spans)
            frames = _decode_wanted(request.path, stream, packets, indices)
            return decoded(frames, packets.spans, packets.fps)
    except NeedsExactReading as need:
        return _decode_from_start(request, need.packets)


def _decode_wanted(path: str, stream: VideoStream, packets: Packets, indices: Sequence[int]) -> np.ndarray:
    """The frames ``[R, H, W, 3]`` with these indices, from as few packets as can be."""
    positions = [int(packets.order[index]) for index in indices]
    stretches = _stretches(packets, sorted(set(positions)))
    size = stream.codec_context.width, stream.codec_context.height
    wanted = {packets.pts[position] for position in positions}
    pictures: dict[int, np.ndarray] = {}
    # Where damage is concealed, what is shown depends on what was decoded before. H.264's open groups, whose first
    # pictures want what was left out, would be taken for damage.
    strict = stream.codec_context.name != "h264" or not packets.has_open_groups()
    matrix = None
    try:
        if packets.kept is not None:
            frames = _frames(stream, packets.kept, stretches, wanted, strict)
        else:
            frames = _frames_read_again(path, stretches, wanted, strict)
        for frame in frames:
            if frame.pts in wanted and frame.pts not in pictures and not frame.is_corrupt:
                pictures[frame.pts] = _rgb(frame, size)
                matrix = display_matrix(frame)
    except (av.FFmpegError, NeedsExactReading) as error:
        # Perhaps for want of a packet that was left out; reading all of them tells.
        raise NeedsExactReading(len(packets.order)) from error
    if len(pictures) < len(wanted):
        raise NeedsExactReading(len(packets.order))
    return upright(np.stack([pictures[packets.pts[position]] for position in positions]), matrix)


def _stretches(packets: Packets, positions: Sequence[int]) -> list[tuple[int, int]]:
    """First and last packet of each run to decode for the packets at ``positions`` (ascending), without overlap."""
    stretches: list[tuple[int, int]] = []
    for position in positions:
        first = position
        # Frames shown before a key frame that they follow in the file may refer to what is before it (open GOP).
        while first > 0 and not (packets.key[first] and packets.pts[first] <= packets.pts[position]):
            first -= 1
        if stretches and first <= stretches[-1][1] + 1:
            stretches[-1] = stretches[-1][0], position
        else:
            stretches.append((first, position))
    return stretches


def _frames(
    stream: VideoStream,
    packets: Iterable[av.Packet],
    stretches: list[tuple[int, int]],
    wanted: set[int],
    strict: bool,
) -> Iterator[av.VideoFrame]:
    """What the stretches give; frames to which no other refers only where they are wanted.

    Raises:
        NeedsExactReading: a stretch does not begin with a key frame, whatever the container says; or its frames come in
            another order than their times.
        av.FFmpegError: a packet cannot be decoded; if `strict`, also where FFmpeg would conceal that.
    """
    codec = stream.codec_context
    if strict:
        codec.options = {**codec.options, "err_detect": "explode"}
    runs = iter(stretches)
    first, last = next(runs)
    begin: int | None = None
    latest: int | None = None
    for position, packet in enumerate(packets):
        if position < first:
            continue
        if position == first:
            begin = packet.pts if position > 0 else None
        codec.skip_frame = "DEFAULT" if position == first or packet.pts in wanted else "NONREF"
        frames = codec.decode(packet)
        if position == last:
            frames += codec.decode(None)  # hands out what waits for its turn to be shown
            codec.flush_buffers()
        for frame in frames:
            if frame.pts == begin:
                if not frame.key_frame:
                    raise NeedsExactReading(len(wanted))
                begin = None
            if frame.pts is not None:
                if latest is not None and frame.pts < latest:
                    raise NeedsExactReading(len(wanted))
                latest = frame.pts
            yield frame
        if position == last:
            if begin is not None:  # not whole enough to be shown
                raise NeedsExactReading(len(wanted))
            latest = None
            first, last = next(runs, (-1, -1))
            if first < 0:
                return


def _frames_read_again(
    path: str, stretches: list[tuple[int, int]], wanted: set[int], strict: bool
) -> Iterator[av.VideoFrame]:
    with opened(path) as (container, stream):
        packets = (packet for packet in container.demux(stream) if packet.size)
        yield from _frames(stream, packets, stretches, wanted, strict)


def _decode_from_start(request: Request, packets: int) -> Decoded:
    """Two passes: count what can really be decoded, then keep what is wanted."""
    path = request.path
    try:
        spans = spans_by_decoding(path, packets)
        indices = request.indices(spans)
        pictures: dict[int, np.ndarray] = {}
        wanted, last, matrix = set(indices), max(indices), None
        with opened(path) as (container, stream):
            fps = float(stream.average_rate or 0)
            size = stream.codec_context.width, stream.codec_context.height
            for index, frame in enumerate(container.decode(stream)):
                if index in wanted:
                    if frame.is_corrupt:
                        raise VideoError(path, "is damaged: some of its frames cannot be decoded", REPLACE)
                    pictures[index] = _rgb(frame, size)
                    matrix = display_matrix(frame)
                if index == last:
                    break
    except av.FFmpegError as error:
        raise VideoError(path, "is damaged: some of its frames cannot be decoded", REPLACE) from error
    return decoded(upright(np.stack([pictures[index] for index in indices]), matrix), spans, fps)


def _rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """uint8 ``[H, W, 3]``; ``size`` is (width, height), to which a frame of another size within the file is brought."""
    # One thread: a frame is small, and a process that is forked while swscale has threads waits for them for ever when
    # its garbage collector frees them.
    return frame.reformat(*size, format="rgb24", threads=1).to_ndarray()
