"""What a video file says of itself: its packets, when their pictures are shown, how they are turned.

All packets are read and none is decoded but the first, which costs little beside decoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream

from centerclip_pl.errors import VideoError
from centerclip_pl.video.decoders.nal_units import has_idr, nal_prefix, vop_types
from centerclip_pl.video.decoders.turning import display_matrix, is_turned
from centerclip_pl.video.timeline import REPLACE, spans_of

if TYPE_CHECKING:
    from av.container import InputContainer

_KEEP_BYTES = 1 << 26  # packets of larger files are read a second time rather than kept
_REORDERS = ("h264", "hevc", "vc1", "wmv3")  # those that FFmpeg gives the times of decoding where others are absent
_I_VOP, _B_VOP = 0, 2
_FROM_START = ("mpeg1video", "dirac")  # rare: made-up times in AVI; pictures that differ by where decoding began
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "gif")
_UNMARKED = ("h263",)  # all packets are said to be key frames
_LOCAL = 16  # frames; no codec shows a frame later than that
_MAX_LOST = 0.5  # packets that repeat the last picture are many in some AVI files; beyond this share it is damage


class NeedsExactReading(Exception):
    """Packets do not tell the frames of this file; ``packets`` pictures are to be expected."""

    def __init__(self, packets: int) -> None:
        super().__init__(packets)
        self.packets = packets


class Packets(NamedTuple):
    """The packets of a video stream in the order of decoding, and the frames in the order of showing."""

    pts: list[int]
    """Time stamp of each packet, in the stream's units."""
    key: list[bool]
    """Whether decoding can begin at a packet, as far as the container knows."""
    independent: bool
    """Whether key frames are such that nothing after one refers to what is before it, H.264's IDR pictures."""
    order: np.ndarray
    """int64 ``[N]``: for each frame that is shown, its packet."""
    spans: np.ndarray
    """float64 ``[N, 2]``: start and end of each frame that is shown, in seconds."""
    fps: float
    kept: list[av.Packet] | None
    """The packets themselves; None where they are too many bytes."""

    def has_open_groups(self) -> bool:
        """Whether some frame may refer to what is before the key frame that it follows in the file."""
        if not self.independent:
            return True
        shown_from: int | None = None
        for pts, key in zip(self.pts, self.key, strict=True):
            if key:
                shown_from = pts
            elif shown_from is not None and pts < shown_from:
                return True
        return False


@contextmanager
def opened(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, decoded by one thread.

    Raises:
        VideoError: the file cannot be opened or has no video stream.
    """
    try:
        container = av.open(path)
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(path, _why_unreadable(path), REPLACE) from error
    with container:
        stream = container.streams.best("video")  # not the cover picture that some files hold
        if not isinstance(stream, VideoStream):
            audio = " (audio only)" if container.streams.audio else ""
            raise VideoError(path, f"has no video stream{audio}", REPLACE)
        if stream.codec_context is None:  # PyAV's types do not say that it can be
            raise VideoError(path, "is damaged, or of a codec that is not known", REPLACE)
        stream.codec_context.thread_count = 1  # loaders have a process for each core already
        stream.codec_context.thread_type = "NONE"
        yield container, stream


def read_packets(path: str, container: InputContainer, stream: VideoStream) -> Packets:
    """All packets of a stream.

    Raises:
        NeedsExactReading: some packet does not say when its picture is shown, or says when it is decoded instead; or
            the file begins with pictures that no decoder shows, because they refer to what was cut off.
        VideoError: the file is cut off.
    """
    kept: list[av.Packet] | None = []
    rows: list[tuple[int | None, bool, bool, int]] = []
    size = 0
    independent = begins_whole = True
    has_b_vop = is_packed = is_cut = False
    codec = stream.codec_context
    prefix = nal_prefix(stream) if codec.name == "h264" else None
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            # A key frame that is not shown cannot be seen to be one when decoding begins there.
            key = packet.is_keyframe and (not packet.is_discard or not rows)
            rows.append((packet.pts, key, packet.is_discard, packet.duration or 0))
            if key and independent and prefix is not None:
                independent = has_idr(bytes(packet), prefix)
                begins_whole = independent or len(rows) > 1
            if codec.name == "mpeg4":
                types = vop_types(bytes(packet))
                independent = independent and not (key and types[:1] != [_I_VOP])
                has_b_vop, is_packed = has_b_vop or _B_VOP in types, is_packed or len(types) > 1
            is_cut = is_cut or packet.is_corrupt
            size += packet.size
            if kept is not None:
                kept.append(packet)
                if size > _KEEP_BYTES:
                    kept = None
    except av.FFmpegError as error:
        raise VideoError(path, _why_unreadable(path), REPLACE) from error
    indexed = len(stream.index_entries)  # all packets in MP4, key frames or none elsewhere
    if indexed > len(rows) and (indexed := sum(entry.size > 0 for entry in stream.index_entries)) > len(rows):
        raise VideoError(path, f"is damaged or cut off: {len(rows)} of its {indexed} packets are there", REPLACE)
    if all(hidden for _, _, hidden, _ in rows):
        raise VideoError(path, "is damaged or cut off: its frames cannot be indexed", REPLACE)
    known = [row[0] for row in rows if row[0] is not None]
    if len(known) < len(rows) or len(set(known)) < len(known):
        raise NeedsExactReading(len(rows))
    # AVI and ASF have no times of showing: those of decoding stand in their place, also after a copy to MP4.
    reorders = has_b_vop or (codec.name in _REORDERS and codec.has_b_frames)
    if is_packed or is_cut or (reorders and known == sorted(known)) or codec.name in _FROM_START:
        raise NeedsExactReading(len(rows))
    shown = [index for index, (_, _, hidden, _) in enumerate(rows) if not hidden]
    # Pictures that refer to what was cut off before them are not shown; how many they are, the decoder alone knows.
    if not (begins_whole and rows[0][1]) or any(known[index] < known[0] for index in shown):
        raise NeedsExactReading(len(rows))
    order = np.array(sorted(shown, key=known.__getitem__), dtype=np.int64)
    unit = float(stream.time_base or 1)
    starts = np.array([known[index] for index in order], dtype=np.float64) * unit
    fps = float(stream.average_rate or 0)
    last = rows[order[-1]][3] * unit or usual_step(starts, fps)
    return Packets(known, [row[1] for row in rows], independent, order, spans_of(starts, last), fps, kept)


def seekable_packets(path: str) -> Packets:
    """The packets, for decoders that seek by themselves and know nothing of mirroring.

    Raises:
        NeedsExactReading: such a decoder would give wrong frames: packets do not say when their pictures are shown,
            some are never shown, a group of pictures refers to the one before it, key frames cannot be found (no index,
            as in MPEG-TS and ASF, or wrong marks), pictures are to be turned, or they are interlaced or have more than
            8 bits a channel (their colours are converted otherwise).
        VideoError: the file cannot be used.
    """
    with opened(path) as (container, stream):
        packets = read_packets(path, container, stream)
        if container.format.name not in _INDEXED or stream.codec_context.name in _UNMARKED:
            raise NeedsExactReading(len(packets.order))
        try:
            first = _first_frame(stream, packets, path)
        except (av.FFmpegError, StopIteration) as error:  # what that means for the wanted frames, PyAV finds out
            raise NeedsExactReading(len(packets.order)) from error
    is_deep = any(component.bits > 8 for component in first.format.components)
    odd = is_deep or first.interlaced_frame or is_turned(display_matrix(first))
    if odd or len(packets.order) < len(packets.pts) or packets.has_open_groups():
        raise NeedsExactReading(len(packets.order))
    return packets


def _first_frame(stream: VideoStream, packets: Packets, path: str) -> av.VideoFrame:
    """The first picture says how all are turned (PyAV has not the container's word) and if they are interlaced."""
    if packets.kept is not None:
        codec = stream.codec_context
        frames = codec.decode(packets.kept[0]) or codec.decode(None)  # None: do not wait for others
        if frames:
            return frames[0]
    with opened(path) as (container, again):
        return next(container.decode(again))


def spans_by_decoding(path: str, packets: int) -> np.ndarray:
    """Start and end of each frame that can be decoded, for files whose packets do not tell.

    Args:
        path: the file.
        packets: how many frames are to be expected.

    Returns:
        float64 ``[N, 2]``, seconds, ascending. A frame without a time comes a usual step behind the one before it.

    Raises:
        VideoError: half of the frames or more cannot be decoded.
        av.FFmpegError: the decoder fails.
    """
    with opened(path) as (container, stream):
        fps = float(stream.average_rate or 0)
        shown, last = [], 0.0
        for frame in container.decode(stream):
            shown.append(frame.time)
            last = float((frame.duration or 0) * (frame.time_base or 0))
    if len(shown) == 0 or len(shown) < (1 - _MAX_LOST) * packets:
        raise VideoError(path, f"is damaged: only {len(shown)} of {packets} frames can be decoded", REPLACE)
    times: list[float] = []
    for time in shown:
        times.append((times[-1] + 1 / (fps or 1) if times else 0.0) if time is None else time)
    starts = _ascending(np.array(times))
    return spans_of(starts, last or usual_step(starts, fps))


def _ascending(times: np.ndarray) -> np.ndarray:
    """Times ``[N]`` of frames in the order of showing, mended where they are those of decoding or begin again."""
    if np.abs(np.argsort(times, kind="stable") - np.arange(len(times))).max() <= _LOCAL:
        return np.sort(times)
    steps = np.diff(times)  # streams that were joined: the next one goes on where the one before it ended
    return times[0] + np.append(0.0, np.cumsum(np.where(steps > 0, steps, np.median(steps[steps > 0]))))


def usual_step(starts: np.ndarray, fps: float) -> float:
    """Seconds from one frame to the next, ``starts`` ``[N]``; from ``fps`` where there is one frame alone."""
    return float(np.median(np.diff(starts))) if len(starts) > 1 else 1 / (fps or 1)


def _why_unreadable(path: str) -> str:
    """The cases that a user can tell apart, of a file that FFmpeg does not read."""
    try:
        with av.open(path):
            return "is damaged or cut off: its frames cannot be indexed"
    except (av.FFmpegError, ValueError):
        with Path(path).open("rb") as file:
            begins_like_mp4 = file.read(12)[4:8] == b"ftyp"
        return "is cut off: its index (moov) is missing" if begins_like_mp4 else "is not a video"
