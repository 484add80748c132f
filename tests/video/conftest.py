"""Real files of odd kinds: rotated, uneven, transparent, deep, late, indexed, with other colours."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.video.decode import DECODERS, check_decoder

WriteVideo = Callable[..., Path]


def _pictures(count: int, width: int, height: int) -> list[np.ndarray]:
    """``count`` pictures [height, width, 3] that differ from each other and from their own mirror images.

    Frame ``k`` is dark grey that grows with ``k``, with a red upper left, a green upper right and a blue lower left
    corner.
    """
    pictures = []
    for index in range(count):
        picture = np.full((height, width, 3), 40 + 5 * index, dtype=np.uint8)
        rows, columns = height // 3, width // 3
        picture[:rows, :columns] = (200, 30, 30)
        picture[:rows, -columns:] = (30, 180, 30)
        picture[-rows:, :columns] = (30, 30, 210)
        pictures.append(picture)
    return pictures


def _write(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    rate: int = 10,
    options: dict[str, str] | None = None,
    gop: int = 12,
    aspect: tuple[int, int] = (1, 1),
    colours: dict[str, int] | None = None,
) -> Path:
    """Write pictures ``[H, W, 3 or 4]``; ``times`` are in units of ``1 / rate`` s, 0, 1, ... where not given.

    ``colours`` are FFmpeg's numbers of ``colorspace`` and ``color_range``: the conversion uses them, and the file says
    so.
    """
    colours = colours or {}
    height, width, channels = pictures[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if gop:
            stream.gop_size = gop
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        stream.codec_context.time_base = Fraction(1, rate)
        for name, value in colours.items():
            setattr(stream.codec_context, name, value)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if channels == 3 else "rgba")
            if colours:
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace=colours.get("colorspace"),
                    dst_color_range=colours.get("color_range"),
                )
            frame.pts = index if times is None else times[index]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _turn(path: Path, matrix: Sequence[int]) -> Path:
    """Give an MP4 file the display matrix ``[a, b, c, d]`` (entries -1, 0, 1): x' = a x + c y, y' = b x + d y."""
    a, b, c, d = matrix
    data = bytearray(path.read_bytes())
    # tkhd, version 0: kind (4), version and flags (4), times, track, reserved, duration (20), reserved, layer (16)
    begin = data.index(b"tkhd") + 44
    one = 1 << 16
    data[begin : begin + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def pictures() -> Callable[[int, int, int], list[np.ndarray]]:
    """``pictures(count, width, height)``: see :func:`_pictures`."""
    return _pictures


@pytest.fixture(scope="session")
def write_video() -> WriteVideo:
    """``write_video(path, pictures, codec=..., pix_fmt=..., times=..., ...)``: see :func:`_write`."""
    return _write


@pytest.fixture(scope="session")
def turn() -> Callable[..., Any]:
    """``turn(path, [a, b, c, d])`` writes a display matrix into an MP4 file."""
    return _turn


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    """Each decoder in turn; those that are not installed are skipped with the reason."""
    try:
        check_decoder(request.param)
    except ConfigError as error:
        pytest.skip(error.problem)
    return request.param
