"""One video file to a small one that is read quickly: few frames a second, a short side, H.264.

What the small file shows is what the reader (:mod:`centerclip_pl.video.decode`) shows of the large one: frame ``k`` is
the frame shown ``k / fps`` seconds after the first one, upright, in the colours that the file asks for. Times keep
their meaning, so that captions of a part of a file stay right. Sound and subtitles are left out.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from centerclip_pl.errors import ConfigError, VideoError
from centerclip_pl.files import replacing
from centerclip_pl.video.decode import check_file
from centerclip_pl.video.decoders.packets import NeedsExactReading, opened, read_packets
from centerclip_pl.video.decoders.turning import display_matrix, is_turned, upright
from centerclip_pl.video.resampling import LONGEST, Shown, frames_by_packets, frames_from_start

KEY_FRAME_EVERY = 1
"""Frames from one key frame to the next. Measured on 60 frames of 298 x 224, of which 12 are read: with 1 they take
26 ms of processor time (PyAV; decord 35), with 4 about 50 (65), with 12 about 50 (60; of 540 frames 115 and 149). The
file of 1 is larger than that of 4 by a fifth where the camera moves and by seven tenths where it rests."""
# Without these swscale makes pictures darker by 1 to 1.5 grey levels, once here and once again in the reader.
_EXACTLY = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class Settings(NamedTuple):
    """How the small files are to be."""

    fps: float = 3.0
    """Frames a second."""
    size: int = 224
    """Shorter side in pixels, even; a video whose shorter side is smaller keeps its size."""
    crf: int = 20
    """x264's constant rate factor: 0 loses nothing, 51 nearly all."""

    def check(self) -> None:
        """
        Raises:
            ConfigError: one of these cannot work.
        """
        if not 0.01 <= self.fps <= 240:
            raise ConfigError(f"fps={self.fps:g}: must be between 0.01 and 240", "the published systems use 3")
        if self.size < 16 or self.size % 2:
            raise ConfigError(
                f"size={self.size}: must be an even number of at least 16", "use the image size, e.g. 224"
            )
        if not 0 <= self.crf <= 51:
            raise ConfigError(
                f"crf={self.crf}: must be between 0 and 51", "the default, 20, loses little that can be seen"
            )


class Transcoded(NamedTuple):
    """A small file that was written."""

    num_frames: int
    width: int
    height: int
    num_bytes: int


def transcode(source: str | Path, target: str | Path, settings: Settings) -> Transcoded:
    """Write the small file; it appears whole or not at all, and is the same in every run.

    Sides are even, as H.264 asks: the longer one is rounded, and a video that keeps its size loses its last row or
    column where they are odd. What is transparent is shown on black. The shape of pixels that are not square is noted
    in the file and not applied, because the reader does not apply it either.

    Args:
        source: any file that the reader reads; not changed.
        target: the file to write; its folder must exist.
        settings: rate, size and quality.

    Returns:
        What was written: ``ceil(duration * fps)`` frames, at least one.

    Raises:
        VideoError: the source is absent, empty, no video, audio only, truncated or damaged.
        ConfigError: ``settings`` cannot work.
        OSError: the target cannot be written.
    """
    settings.check()
    check_file(source)
    path = str(source)
    with replacing(target) as part:
        try:
            written = _encode(part, frames_by_packets(path, settings.fps), settings)
        except NeedsExactReading as need:
            written = _encode(part, frames_from_start(path, settings.fps, need.packets), settings)
        _read_back(part, written.num_frames)
        return written


def small_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height of the small file, of a source of ``width`` and ``height`` as shown.

    >>> small_size(1920, 1080, 224), small_size(320, 239, 224), small_size(121, 90, 224)
    ((398, 224), (300, 224), (120, 90))
    """
    short, long = min(width, height), max(width, height)
    if short > size:
        long = round(long * size / short / 2) * 2
        return (size, long) if width <= height else (long, size)
    return max(2, width - width % 2), max(2, height - height % 2)


def playing_time(path: str | Path) -> float:
    """About how long a file plays, in seconds, as its header says; 0 where it says nothing.

    Raises:
        VideoError: the file cannot be opened or has no video stream.
    """
    check_file(path)
    with opened(str(path)) as (container, _):
        return min(LONGEST, max(0.0, (container.duration or 0) / 1_000_000))  # given in microseconds


class _Picture:
    """Decoded frames to small ones, all of the size that follows from the first."""

    def __init__(self, first: av.VideoFrame, size: int) -> None:
        self._matrix = display_matrix(first)
        width, height = first.width, first.height
        self._stored = small_size(width, height, size)
        shrinks = min(width, height) > size
        # What keeps its size is cut rather than resized, which would blur it.
        self._scaled = self._stored if shrinks else (max(2, width), max(2, height))
        self._to_rgb, self._to_yuv = VideoReformatter(), VideoReformatter()
        self.is_on_its_side = bool(is_turned(self._matrix) and self._matrix is not None and self._matrix[0, 0] == 0)

    def of(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame upright and small, in yuv420p by BT.601, which is also what decoders take where nothing is said."""
        if any(component.is_alpha for component in frame.format.components) or frame.format.has_palette:
            frame = _on_black(frame)
        width, height = self._scaled
        frame = self._to_rgb.reformat(frame, width, height, "rgb24", interpolation=_EXACTLY, threads=1)
        pixels = frame.to_ndarray()[: self._stored[1], : self._stored[0]]
        pixels = np.ascontiguousarray(upright(pixels[None], self._matrix)[0])
        return self._to_yuv.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )


def _on_black(frame: av.VideoFrame) -> av.VideoFrame:
    pixels = frame.reformat(format="rgba", threads=1).to_ndarray().astype(np.uint16)
    blended = (pixels[..., :3] * pixels[..., 3:] + 127) // 255
    return av.VideoFrame.from_ndarray(blended.astype(np.uint8), format="rgb24")


def _encode(part: Path, frames: Iterator[Shown], settings: Settings) -> Transcoded:
    """Write what is shown. What is wrong with the source is raised by ``frames``, all else is the target's."""
    rate = Fraction(settings.fps).limit_denominator(1001)
    first = next(frames)
    picture = _Picture(first.frame, settings.size)
    small, count = picture.of(first.frame), 0
    options = {"crf": str(settings.crf), "preset": "slow", "bf": "0"}
    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = small.width, small.height, "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1  # there is a process for each core, and x264's result depends on the number of threads
        codec.gop_size = KEY_FRAME_EVERY
        codec.time_base = 1 / rate
        codec.colorspace, codec.color_range = Colorspace.ITU601, ColorRange.MPEG
        if first.pixel_aspect:
            codec.sample_aspect_ratio = 1 / first.pixel_aspect if picture.is_on_its_side else first.pixel_aspect
        for shown in chain([first], frames):
            if shown is not first:
                small = picture.of(shown.frame)
            for _ in range(shown.times):
                small.pts, small.time_base = count, 1 / rate
                container.mux(stream.encode(small))
                count += 1
        container.mux(stream.encode())
    return Transcoded(count, small.width, small.height, part.stat().st_size)


def _read_back(part: Path, num_frames: int) -> None:
    """Nothing else tells of bytes that a full or failing disk has lost."""
    try:
        with opened(str(part)) as (container, stream):
            found = len(read_packets(str(part), container, stream).order)
    except (VideoError, NeedsExactReading):
        found = 0
    if found != num_frames:
        raise OSError(errno.EIO, f"only {found} of {num_frames} frames can be read back", str(part))
