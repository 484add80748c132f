"""Files as they come from phones, editors and the web, read by every decoder that is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from centerclip_pl.video.decode import Decoded, decode
from centerclip_pl.video.decoders import packets, pyav
from centerclip_pl.video.decoders.nal_units import has_idr

Pictures = Callable[[int, int, int], list[np.ndarray]]
WriteVideo = Callable[..., Path]

EXACT, CLOSE = 0.0, 2.0  # mean difference from FFmpeg's own reading, in grey levels
LOSSY = 6.0  # and from the pictures that were encoded


def everything(path: Path, decoder: str) -> Decoded:
    return decode(path, range, decoder=decoder)


def as_ffmpeg_shows_them(path: Path) -> np.ndarray:
    """All frames [N, H, W, 3] as stored, read from start to end."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def difference(a: Any, b: Any) -> float:
    """Mean over all frames, pixels and colours."""
    a, b = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    assert a.shape == b.shape
    return float(np.abs(a - b).mean())


def may_encode(codec: str, pix_fmt: str) -> None:
    try:
        formats = av.Codec(codec, "w").video_formats or []
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    if pix_fmt not in [known.name for known in formats]:
        pytest.skip(f"this PyAV's {codec} does not write {pix_fmt}")


ODD = {
    # name: (frames, (width, height), arguments of write_video, allowed difference between decoders)
    "plain.mp4": (20, (64, 48), {}, EXACT),
    "one_frame.mp4": (1, (64, 48), {}, EXACT),
    "uneven.mp4": (12, (64, 48), {"times": [0, 1, 2, 5, 6, 10, 11, 12, 20, 21, 22, 40]}, EXACT),
    "odd_size_444.mp4": (12, (63, 47), {"pix_fmt": "yuv444p"}, EXACT),
    "odd_size.webm": (12, (63, 47), {"codec": "libvpx-vp9"}, CLOSE),
    "odd_size.avi": (12, (63, 47), {"codec": "mpeg4"}, CLOSE),
    "b_frames.mp4": (40, (64, 48), {"options": {"bf": "3", "b-pyramid": "normal"}, "gop": 30}, EXACT),
    "b_frames.avi": (20, (64, 48), {"codec": "mpeg4", "options": {"bf": "2"}}, EXACT),
    "b_frames.mpg": (20, (64, 48), {"codec": "mpeg2video", "rate": 25, "options": {"bf": "2"}}, EXACT),
    "open_gop.mp4": (
        40,
        (64, 48),
        {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3:scenecut=0:b-adapt=0"}, "gop": 8},
        EXACT,
    ),
    "late.mp4": (20, (64, 48), {"times": range(35, 55)}, EXACT),
    "late.mkv": (20, (64, 48), {"times": range(35, 55)}, EXACT),
    "late.ts": (20, (64, 48), {"times": range(35, 55)}, EXACT),
    "flash.flv": (12, (64, 48), {"codec": "flv"}, EXACT),
    "vp8.webm": (20, (64, 48), {"codec": "libvpx"}, EXACT),
    "hevc.mp4": (20, (64, 48), {"codec": "libx265", "options": {"x265-params": "log-level=none"}}, EXACT),
    "deep.mp4": (20, (64, 48), {"pix_fmt": "yuv420p10le"}, CLOSE),
    "deep_hevc.mp4": (
        20,
        (64, 48),
        {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
        CLOSE,
    ),
    "not_square.mp4": (12, (64, 48), {"aspect": (4, 3)}, EXACT),
}


@pytest.mark.parametrize("name", ODD)
def test_every_decoder_gives_the_pictures_that_were_encoded(
    tmp_path: Path, write_video: WriteVideo, pictures: Pictures, decoder: str, name: str
) -> None:
    count, (width, height), arguments, allowed = ODD[name]
    may_encode(arguments.get("codec", "libx264"), arguments.get("pix_fmt", "yuv420p"))
    originals = pictures(count, width, height)
    path = write_video(tmp_path / name, originals, **arguments)
    frames, info = everything(path, decoder)
    assert (info.num_frames, info.width, info.height) == (count, width, height)  # not square: as stored
    assert difference(frames, originals) < LOSSY
    assert difference(frames, as_ffmpeg_shows_them(path)) <= allowed
    middle = frames[:, height // 3 : -(height // 3), width // 3 : -(width // 3)].mean(axis=(1, 2, 3))
    assert np.abs(middle - (40 + 5 * np.arange(count))).max() < 5  # 5 grey levels from frame to frame
    some = sorted({0, count // 3, count // 2, count - 1})
    assert np.array_equal(decode(path, lambda n: some, decoder=decoder).frames, frames[some])
    any_order = [count - 1, 0, count // 2, 0]
    assert np.array_equal(decode(path, lambda n: any_order, decoder=decoder).frames, frames[any_order])


def test_times_are_the_files_own(tmp_path: Path, write_video: WriteVideo, pictures: Pictures, decoder: str) -> None:
    times = [0, 1, 2, 5, 6, 10, 11, 12, 20, 21, 22, 40]  # tenths of a second
    path = write_video(tmp_path / "uneven.mp4", pictures(12, 64, 48), times=times)
    all_frames = everything(path, decoder)
    assert all_frames.info.duration == pytest.approx(4.1, abs=0.11)

    def shown(start: float | None = None, end: float | None = None, fps: float | None = None) -> list[int]:
        frames = decode(path, range, start, end, fps=fps, decoder=decoder).frames
        return [int(np.abs(all_frames.frames.astype(int) - frame).mean(axis=(1, 2, 3)).argmin()) for frame in frames]

    assert shown(1.05, 2.05) == [5, 6, 7, 8]  # frame 5 is shown from 1.0 to 1.1 s
    assert shown(fps=1) == [0, 5, 8, 10, 11]  # at 0, 1, 2, 3, 4 s; frame 10 is shown from 2.2 to 4.0 s
    assert shown(fps=2) == [0, 3, 5, 7, 8, 10, 11]
    assert shown(fps=100) == list(range(12))
    assert shown(0.55, 2.05, fps=1) == [3, 7]  # at 0.55 and 1.55 s


TURNS = {
    # what a player does with the stored picture, in numpy's words
    "quarter": ([0, 1, -1, 0], lambda stored: np.rot90(stored, -1)),
    "half": ([-1, 0, 0, -1], lambda stored: np.rot90(stored, 2)),
    "three quarters": ([0, -1, 1, 0], lambda stored: np.rot90(stored, 1)),
    "mirrored": ([-1, 0, 0, 1], np.fliplr),
    "upside down": ([1, 0, 0, -1], np.flipud),
    "mirrored and turned": ([0, 1, 1, 0], lambda stored: stored.transpose(1, 0, 2)),
    "not at all": ([1, 0, 0, 1], lambda stored: stored),
}


@pytest.mark.parametrize("name", TURNS)
def test_turned_videos_come_upright(
    tmp_path: Path,
    write_video: WriteVideo,
    pictures: Pictures,
    turn: Callable[..., Path],
    decoder: str,
    name: str,
) -> None:
    matrix, by_numpy = TURNS[name]
    path = turn(write_video(tmp_path / "phone.mp4", pictures(12, 64, 48)), matrix)
    expected = np.stack([by_numpy(stored) for stored in as_ffmpeg_shows_them(path)])
    frames, info = everything(path, decoder)
    assert np.array_equal(frames, expected)
    assert (info.height, info.width) == expected.shape[1:3]


@pytest.mark.parametrize("turned", ["quarter", "three quarters"])
def test_turning_agrees_with_ffmpegs_own_angle(
    tmp_path: Path, write_video: WriteVideo, pictures: Pictures, turn: Callable[..., Path], turned: str
) -> None:
    path = turn(write_video(tmp_path / "phone.mp4", pictures(2, 64, 48)), TURNS[turned][0])
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    quarter_turns = frame.rotation // 90  # counterclockwise, as rot90 counts
    assert np.array_equal(
        decode(path, lambda n: [0]).frames[0], np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns)
    )


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "lossless"),
    [
        ("a.mov", "qtrle", "argb", True),
        ("a_png.mov", "png", "rgba", True),
        ("a.webm", "libvpx-vp9", "yuva420p", False),
    ],
)
def test_alpha_is_left_out(
    tmp_path: Path,
    write_video: WriteVideo,
    pictures: Pictures,
    decoder: str,
    name: str,
    codec: str,
    pix_fmt: str,
    lossless: bool,
) -> None:
    may_encode(codec, pix_fmt)
    originals = pictures(8, 64, 48)
    half = np.full((48, 64, 1), 128, dtype=np.uint8)
    transparent = [np.concatenate([picture, half], axis=2) for picture in originals]
    path = write_video(tmp_path / name, transparent, codec=codec, pix_fmt=pix_fmt)
    frames = everything(path, decoder).frames
    assert difference(frames, originals) <= (0 if lossless else LOSSY)


def test_gif(tmp_path: Path, write_video: WriteVideo, pictures: Pictures, decoder: str) -> None:
    path = write_video(tmp_path / "a.gif", pictures(12, 64, 48), codec="gif", pix_fmt="rgb8")
    frames, info = everything(path, decoder)
    assert info.num_frames == 12
    assert info.duration == pytest.approx(1.2, abs=0.02)
    assert np.array_equal(frames, as_ffmpeg_shows_them(path))


COLOURS = {
    "bt601": {"colorspace": 5, "color_range": 1},
    "bt709": {"colorspace": 1, "color_range": 1},
    "bt601_full": {"colorspace": 5, "color_range": 2},
    "bt709_full": {"colorspace": 1, "color_range": 2},
    "untagged": {},
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_follow_the_files_matrix_and_range(
    tmp_path: Path, write_video: WriteVideo, decoder: str, name: str
) -> None:
    colours = [(200, 30, 30), (30, 180, 30), (30, 30, 210), (235, 235, 235), (20, 20, 20)]
    originals = [np.full((48, 64, 3), colour, dtype=np.uint8) for colour in colours]
    path = write_video(tmp_path / "v.mp4", originals, colours=COLOURS[name], options={"crf": "2"}, gop=1)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0))
    if COLOURS[name]:
        assert stored.colorspace == COLOURS[name]["colorspace"]
    frames = everything(path, decoder).frames
    # BT.601 read as BT.709 is 12 levels off in the mean, limited range read as full 10
    assert np.abs(frames.astype(int).mean(axis=(1, 2)) - np.array(colours)).max() <= 4


def test_frames_of_two_sizes_within_a_file_come_in_one(
    tmp_path: Path, write_video: WriteVideo, pictures: Pictures
) -> None:
    parts = [
        write_video(tmp_path / f"{width}.ts", pictures(4, width, 48), times=range(first, first + 4), gop=1)
        for width, first in ((64, 10), (96, 14))
    ]
    path = tmp_path / "two_sizes.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, info = everything(path, "pyav")
    assert info.num_frames == 8
    assert frames.shape in {(8, 48, 64, 3), (8, 48, 96, 3)}
    for frame in frames:  # stretched or squeezed: the red corner is a third of the width in all
        assert difference(frame[:12, : info.width // 3 - 4].mean(axis=(0, 1)), (200, 30, 30)) < LOSSY


def test_packets_of_large_files_are_read_twice(
    tmp_path: Path, write_video: WriteVideo, pictures: Pictures, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mp4", pictures(40, 64, 48), options={"bf": "3"}, gop=10)
    kept = decode(path, lambda n: [3, 17, 39], decoder=decoder).frames
    monkeypatch.setattr(packets, "_KEEP_BYTES", 100)
    assert np.array_equal(decode(path, lambda n: [3, 17, 39], decoder=decoder).frames, kept)


MOVING = {
    "h264.mp4": {"options": {"x264-params": "keyint=9:bframes=3:b-adapt=0:scenecut=0:ref=4"}},
    "h264_open.mkv": {"options": {"x264-params": "keyint=11:bframes=4:b-adapt=0:scenecut=0:open-gop=1:b-pyramid=2"}},
    "h264.ts": {"options": {"x264-params": "keyint=9:bframes=2:scenecut=0"}, "times": range(10, 46)},
    "h264_open.ts": {"options": {"x264-params": "keyint=9:bframes=2:scenecut=0:open-gop=1"}, "times": range(10, 46)},
    "h264_intra_refresh.mp4": {"options": {"x264-params": "keyint=8:intra-refresh=1:bframes=0"}},
    "h264_interlaced.mp4": {"options": {"x264-params": "keyint=10:tff=1:bframes=2"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10:bframes=3:open-gop=1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 10, "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "gop": 10, "options": {"bf": "2"}},
    "mpeg2.ts": {"codec": "mpeg2video", "rate": 25, "gop": 10, "options": {"bf": "2"}, "times": range(10, 46)},
}


@pytest.mark.parametrize("name", MOVING)
def test_any_choice_of_frames_is_what_reading_from_start_to_end_gives(
    tmp_path: Path, write_video: WriteVideo, decoder: str, name: str
) -> None:
    arguments = MOVING[name]
    may_encode(arguments.get("codec", "libx264"), "yuv420p")
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 256, (20, 30, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    moving = [scene[k : k + 48, 2 * k : 2 * k + 64].copy() for k in range(36)]  # a wrong reference would show
    path = write_video(tmp_path / name, moving, **arguments)
    whole = as_ffmpeg_shows_them(path)
    for size in (1, 1, 1, 2, 3, 5, 12):
        wanted = np.sort(rng.choice(len(whole), size, replace=False)).tolist()

        def choose(available: int, wanted: list[int] = wanted) -> list[int]:
            assert available == len(whole)
            return wanted

        assert np.array_equal(decode(path, choose, decoder=decoder).frames, whole[wanted]), wanted


def test_few_frames_of_many_are_decoded(
    tmp_path: Path, write_video: WriteVideo, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(
        tmp_path / "v.mp4", pictures(40, 64, 48), options={"x264-params": "bframes=3:b-adapt=0:scenecut=0"}, gop=10
    )
    expected = as_ffmpeg_shows_them(path)[[4, 35]]
    seen = []
    through = pyav._frames

    def count(*args: Any) -> Any:
        for frame in through(*args):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(pyav, "_frames", count)
    assert np.array_equal(decode(path, lambda n: [4, 35]).frames, expected)
    assert len(seen) < 12


def test_a_container_that_calls_every_packet_a_key_frame_is_not_believed(
    tmp_path: Path, write_video: WriteVideo, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mp4", pictures(30, 64, 48), codec="mpeg4", gop=15)
    expected = as_ffmpeg_shows_them(path)[[12, 22]]
    truth = pyav.read_packets
    monkeypatch.setattr(
        pyav, "read_packets", lambda *args: (found := truth(*args))._replace(key=[True] * len(found.key))
    )
    assert np.array_equal(decode(path, lambda n: [12, 22]).frames, expected)


def test_which_files_may_be_sought_in(tmp_path: Path, write_video: WriteVideo, pictures: Pictures) -> None:
    closed = {"options": {"x264-params": "keyint=6:scenecut=0"}}
    opened = {"options": {"x264-params": "keyint=6:scenecut=0:open-gop=1"}}
    for name, arguments, may in [
        ("a.mp4", closed, True),
        ("a.mkv", closed, True),
        ("a.ts", closed, True),
        ("b.mp4", opened, False),
        ("b.mkv", opened, False),
        ("b.ts", opened, False),
    ]:
        path = str(write_video(tmp_path / name, pictures(20, 64, 48), **arguments))
        with packets.opened(path) as (container, stream):
            assert packets.read_packets(path, container, stream).independent == may, name


@pytest.mark.parametrize("prefix", [0, 1, 2, 4])
def test_idr_pictures_are_told_by_their_first_slice(prefix: int) -> None:
    def packet(*kinds: int) -> bytes:
        units = [bytes([0x60 | kind, 7, 9, 11]) for kind in kinds]
        begin = (lambda unit: len(unit).to_bytes(prefix, "big")) if prefix else (lambda unit: b"\x00\x00\x01")
        return b"".join(begin(unit) + unit for unit in units)

    assert has_idr(packet(9, 7, 8, 6, 5, 5), prefix)
    assert has_idr(packet(5), prefix)
    assert not has_idr(packet(9, 7, 8, 6, 1), prefix)
    assert not has_idr(packet(1, 5), prefix)
    assert not has_idr(packet(6), prefix)
    assert not has_idr(b"", prefix)
