"""Files whose packets say something else than what a decoder shows: cut, copied, joined, damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from centerclip_pl.errors import VideoError
from centerclip_pl.video.decode import decode
from centerclip_pl.video.decoders.nal_units import vop_types
from centerclip_pl.video.decoders.packets import NeedsExactReading, opened, read_packets
from centerclip_pl.video.decoders.pyav import _decode_wanted

WriteVideo = Callable[..., Path]

B_FRAMES = {"options": {"x264-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0"}}
OPEN = {"options": {"x264-params": "keyint=9:min-keyint=9:bframes=3:b-adapt=0:scenecut=0:open-gop=1"}}


@pytest.fixture(scope="module")
def moving() -> list[np.ndarray]:
    """36 pictures of a scene that moves, in which a wrong reference shows."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 256, (20, 30, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return [scene[k : k + 48, 2 * k : 2 * k + 64].copy() for k in range(36)]


def from_start_to_end(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def copy(source: Path, target: Path, first_key: int = 0) -> Path:
    """Copy packets without decoding, from a key frame on, as ``ffmpeg -ss ... -c copy`` does."""
    keys = -1
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            keys += packet.is_keyframe
            if packet.size and keys >= first_key:
                packet.stream = stream
                new.mux(packet)
    return target


def require_exact(path: Path, decoder: str, tolerance: float = 0.0) -> None:
    """Any choice of frames is what reading from start to end gives."""
    whole = from_start_to_end(path).astype(np.int64)
    rng = np.random.default_rng(1)
    for size in (1, 1, 1, 1, 2, 5, len(whole)):
        wanted = rng.choice(len(whole), size, replace=False).tolist()
        counts = []

        def choose(available: int, wanted: list[int] = wanted, counts: list[int] = counts) -> list[int]:
            counts.append(available)
            return wanted

        frames = decode(path, choose, decoder=decoder).frames
        assert set(counts) == {len(whole)}
        assert np.abs(frames - whole[wanted]).mean(axis=(1, 2, 3)).max() <= tolerance, wanted


@pytest.mark.parametrize("suffix", ["avi", "asf"])
def test_containers_without_times_of_showing(
    tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray], decoder: str, suffix: str
) -> None:
    path = write_video(tmp_path / f"v.{suffix}", moving, **B_FRAMES)
    require_exact(path, decoder)
    second = decode(path, range, fps=1, decoder=decoder).frames
    assert np.array_equal(second, from_start_to_end(path)[[0, 10, 20, 30]])  # 10 frames a second


def test_their_copies_in_other_containers(
    tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray], decoder: str
) -> None:
    require_exact(copy(write_video(tmp_path / "v.avi", moving, **B_FRAMES), tmp_path / "v.mp4"), decoder)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("h264.ts", {**OPEN, "times": range(10, 46)}),
        ("h264.flv", {**OPEN, "times": range(10, 46)}),
        ("refresh.flv", {"options": {"x264-params": "keyint=8:intra-refresh=1:bframes=0"}, "times": range(10, 46)}),
        ("mpeg2.ts", {"codec": "mpeg2video", "rate": 25, "gop": 9, "options": {"bf": "2"}, "times": range(10, 46)}),
        ("mpeg4.avi", {"codec": "mpeg4", "gop": 9, "options": {"bf": "2"}}),
    ],
)
def test_pictures_that_refer_to_what_was_cut_off_are_not_counted(
    tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray], decoder: str, name: str, arguments: Any
) -> None:
    whole = write_video(tmp_path / f"whole_{name}", moving, **arguments)
    path = copy(whole, tmp_path / name, first_key=1)
    assert 0 < len(from_start_to_end(path)) < 36
    require_exact(path, decoder)


@pytest.mark.parametrize("codec", ["h263p", "mpeg1video"])
def test_codecs_whose_packets_mislead(
    tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray], decoder: str, codec: str
) -> None:
    arguments = {"rate": 25, "options": {"bf": "2"}} if codec == "mpeg1video" else {}
    require_exact(write_video(tmp_path / "v.avi", moving, codec=codec, gop=9, **arguments), decoder)


def test_streams_that_were_joined_go_on(
    tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray], decoder: str
) -> None:
    parts = [
        write_video(tmp_path / name, some, rate=10, times=range(10, 28))
        for name, some in (("a.ts", moving[:18]), ("b.ts", moving[18:]))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    whole = from_start_to_end(path)
    found = decode(path, range, fps=1, decoder=decoder)
    assert found.info.duration == pytest.approx(len(whole) / 10, abs=0.15)
    nearest = [int(np.abs(whole.astype(int) - frame).mean(axis=(1, 2, 3)).argmin()) for frame in found.frames]
    assert nearest == pytest.approx([0, 10, 20, 30], abs=1)


def test_damage_that_would_be_concealed_is_seen(
    tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray]
) -> None:
    path = write_video(tmp_path / "v.mp4", moving, options={"x264-params": "keyint=36:bframes=2:scenecut=0"})
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for packet in packets[10:26]:  # one of them is an error in the stream, whatever the encoder made
        data[packet.pos + packet.size // 2 : packet.pos + packet.size] = b"\xff" * (packet.size - packet.size // 2)
    path.write_bytes(data)
    with opened(str(path)) as (container, stream):
        found = read_packets(str(path), container, stream)
        with pytest.raises(NeedsExactReading):  # not one of its frames from a few packets alone
            _decode_wanted(str(path), stream, found, [len(found.order) - 1])


def test_a_last_picture_that_was_cut_off_is_not_counted(
    tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray], decoder: str
) -> None:
    path = write_video(tmp_path / "v.flv", moving, **B_FRAMES)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(data[: packets[20].pos + packets[20].size // 2])
    assert 15 < len(from_start_to_end(path)) < 21
    require_exact(path, decoder)


def test_an_unknown_codec_is_no_crash(tmp_path: Path, write_video: WriteVideo, moving: list[np.ndarray]) -> None:
    path = write_video(tmp_path / "v.mp4", moving[:4])
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    with pytest.raises(VideoError, match="codec"):
        decode(path, range)


def test_packed_pictures_are_counted() -> None:
    def vop(kind: int) -> bytes:
        return bytes([0, 0, 1, 0xB6, kind << 6 | 5, 7, 9])

    assert vop_types(b"\0\0\1\xb2DivX" + vop(0)) == [0]
    assert vop_types(vop(1) + vop(2)) == [1, 2]
    assert vop_types(b"\0\0\1\xb6") == []
