"""Videos that are broken in every way that a generator can think of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

MakeVideo = Callable[..., Path]


def write_bad_videos(folder: Path, make_video: MakeVideo, count: int = 200, seed: int = 0) -> list[Path]:
    """Damage good files: cut, overwrite, shift, repeat, blank or lie; some of them may still be readable in part.

    Args:
        folder: to write into.
        make_video: the fixture.
        count: how many.
        seed: of the damage.
    """
    rng = np.random.default_rng(seed)
    sources = []
    for codec, suffix in (("libx264", ".mp4"), ("mpeg4", ".avi"), ("libx264", ".mkv"), ("mpeg4", ".mp4")):
        for faststart in (False, True) if suffix == ".mp4" else (False,):
            file = folder / f"source-{codec}-{faststart}{suffix}"
            noise = rng.integers(0, 256, (16, 48, 64, 3), dtype=np.uint8)
            make_video(file, 16, codec=codec, faststart=faststart, color_fn=lambda k, noise=noise: noise[k])
            sources.append((file.read_bytes(), suffix))
            file.unlink()
    damages = [_cut, _overwrite, _zero, _remove, _repeat, _flip_bits, _lie, _nothing_but_a_head, _noise, _words]
    files = []
    for number in range(count):
        content, suffix = sources[number % len(sources)]
        damage = damages[number % len(damages)]
        file = folder / f"bad{number:03d}-{damage.__name__.strip('_')}{suffix}"
        file.write_bytes(damage(content, rng))
        files.append(file)
    return files


def _span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(content)))
    return start, min(len(content), start + int(rng.integers(1, max(2, len(content) // 3))))


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + rng.bytes(end - start) + content[end:]


def _zero(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def _remove(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(content, rng)
    return content[:end] + content[start:]


def _flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for place in rng.integers(0, len(data), size=64):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _lie(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a number in an index: counts, sizes and times that are not so."""
    data = bytearray(content)
    names = [b"stsz", b"stts", b"stco", b"stsc", b"mvhd", b"mdhd", b"tkhd", b"ctts", b"elst", b"strh", b"idx1", b"avih"]
    for name in names:
        at = data.find(name)
        if at >= 0 and rng.random() < 0.4:
            place = at + 4 + 4 * int(rng.integers(1, 6))
            data[place : place + 4] = rng.bytes(4)
    return bytes(data)


def _nothing_but_a_head(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(8, 64))]


def _noise(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 4000)))


def _words(content: bytes, rng: np.random.Generator) -> bytes:
    return b"<html><body>404 Not Found</body></html>\n" * int(rng.integers(0, 50))
