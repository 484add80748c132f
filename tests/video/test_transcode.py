from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.errors import ConfigError, VideoError
from centerclip_pl.video import transcode as transcode_module
from centerclip_pl.video.decode import decode
from centerclip_pl.video.decoders import packets
from centerclip_pl.video.resampling import repeats_at
from centerclip_pl.video.transcode import Settings, playing_time, small_size, transcode

MakeVideo = Callable[..., Path]
Pictures = Callable[[int, int, int], list[np.ndarray]]
SMALL = Settings(fps=3, size=32, crf=4)


def frames_of(path: Path) -> np.ndarray:
    return decode(path, range).frames.astype(int)


def numbers(path: Path) -> list[int]:
    """Which frames of make_video these are, told by their grey level."""
    return np.rint(frames_of(path).mean(axis=(1, 2, 3)) / 4).astype(int).tolist()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize(
    ("source_fps", "num_frames", "fps"), [(12, 24, 3), (25, 63, 3), (30, 41, 3), (2, 5, 3), (3, 7, 3), (12, 30, 2.5)]
)
def test_frame_k_is_the_one_shown_at_k_over_fps(
    tmp_path: Path, make_video: MakeVideo, source_fps: int, num_frames: int, fps: float
) -> None:
    source = make_video(tmp_path / "v.mp4", num_frames, fps=source_fps)
    written = transcode(source, tmp_path / "o.mp4", SMALL._replace(fps=fps))
    rate, seconds = Fraction(fps), Fraction(num_frames, source_fps)
    expected = [int(Fraction(k) / rate * source_fps) for k in range(math.ceil(seconds * rate))]
    assert numbers(tmp_path / "o.mp4") == expected
    assert written.num_frames == len(expected)
    info = decode(tmp_path / "o.mp4", lambda n: [0]).info
    assert info.fps == pytest.approx(fps)
    assert -1e-6 < info.duration - float(seconds) < 1 / fps + 1e-6


def test_a_part_of_a_file_stays_where_it_was(tmp_path: Path, make_video: MakeVideo) -> None:
    source = make_video(tmp_path / "v.mp4", 60, fps=12)
    transcode(source, tmp_path / "o.mp4", SMALL)
    part = decode(tmp_path / "o.mp4", range, 2.0, 4.0).frames.mean(axis=(1, 2, 3)) / 4
    assert np.rint(part).astype(int).tolist() == [24, 28, 32, 36, 40, 44]


def test_variable_frame_rate_and_a_late_start(
    tmp_path: Path, pictures: Pictures, write_video: Callable[..., Path]
) -> None:
    # Shown from 0, 0.1, 0.2, 1.0, 1.1 and 2.5 s on, counted from the first; the last lasts as long as is usual.
    times = [0, 1, 2, 10, 11, 25]
    source = write_video(tmp_path / "v.mkv", pictures(6, 64, 48), times=[37 + t for t in times], rate=10)
    transcode(source, tmp_path / "o.mp4", SMALL._replace(size=48))
    got = frames_of(tmp_path / "o.mp4")
    whole = frames_of(source)
    nearest = [int(np.abs(whole - frame).mean(axis=(1, 2, 3)).argmin()) for frame in got]
    assert nearest == [0, 2, 2, 3, 4, 4, 4, 4]
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].start_time == 0


@pytest.mark.parametrize("shift", [5, 21])
def test_frames_before_the_beginning_are_not_shown(tmp_path: Path, make_video: MakeVideo, shift: int) -> None:
    source = make_video(tmp_path / "v.mp4", 60, fps=12, gop=99, shift=shift)
    transcode(source, tmp_path / "o.mp4", SMALL)
    assert numbers(tmp_path / "o.mp4") == list(range(shift, 60, 4))


def test_one_frame_in_one_frame_out(tmp_path: Path, make_video: MakeVideo) -> None:
    assert transcode(make_video(tmp_path / "v.mp4", 1), tmp_path / "o.mp4", SMALL).num_frames == 1
    assert numbers(tmp_path / "o.mp4") == [0]


@given(
    starts=st.lists(st.floats(0.004, 3), max_size=20),
    last=st.floats(0.01, 2),
    fps=st.sampled_from([0.5, 1, 3, 29.97]),
    begin=st.floats(-5, 5),
)
def test_each_time_shows_the_last_frame_that_began(starts: list[float], last: float, fps: float, begin: float) -> None:
    begins = begin + np.cumsum([0.0, *starts])
    spans = np.stack([begins, [*begins[1:], begins[-1] + last]], axis=1)
    shown = np.repeat(np.arange(len(spans)), repeats_at(spans, fps))
    duration = float(spans[-1, 1] - begin)
    assert len(shown) == max(1, math.ceil((duration - 1e-3) * fps))
    for k, frame in enumerate(shown):
        assert begins[frame] - begin <= k / fps + 1.1e-3
        assert frame == len(begins) - 1 or begins[frame + 1] - begin >= k / fps + 0.9e-3


@given(width=st.integers(1, 4000), height=st.integers(1, 4000), size=st.integers(8, 300).map(lambda n: 2 * n))
def test_sizes(width: int, height: int, size: int) -> None:
    small = small_size(width, height, size)
    assert all(side % 2 == 0 and side >= 2 for side in small)
    assert small_size(height, width, size) == small[::-1]
    if min(width, height) > size:
        assert min(small) == size
        assert abs(max(small) - max(width, height) * size / min(width, height)) <= 1
    else:
        assert all(max(0, side - small_side) <= 1 for side, small_side in zip((width, height), small, strict=True))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (65, 47), (41, 90), (31, 25), (1, 1)])
def test_odd_and_small_sizes(
    tmp_path: Path, pictures: Pictures, write_video: Callable[..., Path], width: int, height: int
) -> None:
    source = write_video(tmp_path / "v.mov", pictures(3, width, height), codec="png", pix_fmt="rgb24", rate=3, gop=0)
    written = transcode(source, tmp_path / "o.mp4", SMALL)
    assert (written.width, written.height) == small_size(width, height, 32)
    got = frames_of(tmp_path / "o.mp4")
    assert got.shape == (3, written.height, written.width, 3)
    for frame, original in zip(got, frames_of(source), strict=True):
        assert np.abs(frame.mean(axis=(0, 1)) - original.mean(axis=(0, 1))).max() < 6


@pytest.mark.parametrize(
    "matrix", [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)]
)
def test_turned_as_the_file_asks(
    tmp_path: Path,
    pictures: Pictures,
    write_video: Callable[..., Path],
    turn: Callable[..., Path],
    matrix: Sequence[int],
) -> None:
    source = turn(write_video(tmp_path / "v.mp4", pictures(6, 60, 36), rate=3, options={"crf": "4"}), matrix)
    transcode(source, tmp_path / "o.mp4", SMALL._replace(size=36))
    got, upright = frames_of(tmp_path / "o.mp4"), frames_of(source)
    assert difference(got, upright) < 3
    assert difference(got, upright[:, :, ::-1]) > 15  # the corners differ, so that a mirror image would show
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert next(container.decode(video=0)).side_data.get("DISPLAYMATRIX") is None


def test_what_is_transparent_is_black(tmp_path: Path, pictures: Pictures, write_video: Callable[..., Path]) -> None:
    clear = [np.dstack([np.full((48, 64, 3), 200, np.uint8), np.full((48, 64), 255, np.uint8)]) for _ in range(2)]
    for picture in clear:
        picture[:24, :, 3] = 0
        picture[24:, :32, 3] = 128
    source = write_video(tmp_path / "v.mov", clear, codec="png", pix_fmt="rgba", rate=3, gop=0)
    transcode(source, tmp_path / "o.mp4", SMALL._replace(size=48))
    got = frames_of(tmp_path / "o.mp4")
    assert got[:, 2:22].max() < 8
    assert abs(got[:, 26:46, 2:30].mean() - 100) < 3
    assert abs(got[:, 26:46, 34:62].mean() - 200) < 3


@pytest.mark.parametrize(
    ("pix_fmt", "colours"),
    [
        ("yuv420p10le", {}),
        ("yuv444p", {}),
        ("yuv420p", {"colorspace": 1, "color_range": 1}),
        ("yuv420p", {"colorspace": 1, "color_range": 2}),
    ],
)
def test_depth_and_colours(
    tmp_path: Path, pictures: Pictures, write_video: Callable[..., Path], pix_fmt: str, colours: dict[str, int]
) -> None:
    originals = pictures(4, 64, 48)
    source = write_video(tmp_path / "v.mp4", originals, pix_fmt=pix_fmt, colours=colours, rate=3, options={"crf": "2"})
    transcode(source, tmp_path / "o.mp4", SMALL._replace(size=48))
    assert difference(frames_of(tmp_path / "o.mp4"), frames_of(source)) < 4
    assert difference(frames_of(tmp_path / "o.mp4"), np.stack(originals)) < 5


def test_shrinking_gives_what_training_would_make_of_the_large_frames(
    tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    import torch

    from centerclip_pl.video.transforms import resize_and_crop

    rows, columns = np.mgrid[:96, :140]
    waves = [120 + 60 * np.sin(rows / a + a) + 50 * np.cos(columns / a) for a in (6, 9, 14)]
    originals = [np.repeat(wave[..., None], 3, axis=2).astype(np.uint8) for wave in waves]
    source = write_video(tmp_path / "v.mp4", originals, rate=3, options={"crf": "2"})
    transcode(source, tmp_path / "o.mp4", SMALL)

    def seen(path: Path) -> np.ndarray:
        frames = torch.from_numpy(decode(path, range).frames).permute(0, 3, 1, 2)
        return resize_and_crop(frames, 32).numpy().astype(int)

    large, small = seen(source), seen(tmp_path / "o.mp4")
    assert difference(large, small) < 3
    assert abs((large - small).mean()) < 0.5  # no darker and no lighter


@pytest.mark.parametrize(("matrix", "aspect"), [((1, 0, 0, 1), Fraction(4, 3)), ((0, 1, -1, 0), Fraction(3, 4))])
def test_the_shape_of_pixels_is_noted_and_not_applied(
    tmp_path: Path,
    pictures: Pictures,
    write_video: Callable[..., Path],
    turn: Callable[..., Path],
    matrix: Sequence[int],
    aspect: Fraction,
) -> None:
    source = turn(write_video(tmp_path / "v.mp4", pictures(2, 64, 48), aspect=(4, 3), rate=3), matrix)
    written = transcode(source, tmp_path / "o.mp4", SMALL._replace(size=48))
    assert sorted((written.width, written.height)) == [48, 64]
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect


def test_the_file_is_made_for_reading(tmp_path: Path) -> None:
    source = tmp_path / "v.mp4"
    with av.open(str(source), "w") as container:  # with sound
        stream, sound = container.add_stream("libx264", rate=12), container.add_stream("aac", rate=16000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 12)
            container.mux(stream.encode(frame))
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 32000), dtype=np.float32), format="fltp", layout="mono")
        noise.sample_rate = 16000
        container.mux(stream.encode() + sound.encode(noise) + sound.encode())
    before = source.read_bytes(), source.stat().st_mtime_ns
    target = tmp_path / "o.mp4"
    written = transcode(source, target, SMALL)
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    assert written.num_bytes == target.stat().st_size
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(target)) as container:
        (only,) = container.streams
        assert only.codec_context.name == "h264"
        assert (only.codec_context.pix_fmt, only.average_rate) == ("yuv420p", 3)
        assert all(packet.is_keyframe for packet in container.demux(only) if packet.size)
    assert np.array_equal(decode(target, range, decoder="decord").frames, decode(target, range).frames)
    transcode(source, tmp_path / "again.mp4", SMALL)
    assert (tmp_path / "again.mp4").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.mp4", "o.mp4", "v.mp4"]


@pytest.mark.parametrize("suffix", [".h264", ".avi", ".mkv", ".ts"])
def test_other_containers(tmp_path: Path, make_video: MakeVideo, suffix: str) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    source = make_video(tmp_path / f"v{suffix}", 50, fps=25, codec=codec)  # .h264 has no times at all
    transcode(source, tmp_path / "o.mp4", SMALL)
    assert numbers(tmp_path / "o.mp4") == [0, 8, 16, 25, 33, 41]


def test_large_files_are_read_twice_rather_than_kept(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "v.mp4", 48, fps=12)
    transcode(source, tmp_path / "kept.mp4", SMALL)
    monkeypatch.setattr(packets, "_KEEP_BYTES", 0)
    transcode(source, tmp_path / "twice.mp4", SMALL)
    assert (tmp_path / "twice.mp4").read_bytes() == (tmp_path / "kept.mp4").read_bytes()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "does not exist"),
        ("empty", "is empty"),
        ("text", "is not a video"),
        ("audio", r"audio only"),
        ("no_index", "moov"),
        ("cut", "cut off"),
        ("damaged", "is damaged"),
    ],
)
def test_unusable_files_leave_nothing(tmp_path: Path, broken_videos: dict[str, Path], kind: str, reason: str) -> None:
    with pytest.raises(VideoError, match=reason):
        transcode(broken_videos[kind], tmp_path / "o.mp4", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_times_that_go_on_for_days_are_damage(
    tmp_path: Path, pictures: Pictures, write_video: Callable[..., Path]
) -> None:
    source = write_video(tmp_path / "v.mkv", pictures(3, 64, 48), times=[0, 1, 30 * 3600], rate=1)
    with pytest.raises(VideoError, match="lasts 30 hours"):
        transcode(source, tmp_path / "o.mp4", SMALL)


def test_what_cannot_be_written_is_no_fault_of_the_video(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "v.mp4", 12)
    with pytest.raises(OSError, match="No such file"):
        transcode(source, tmp_path / "absent" / "o.mp4", SMALL)
    encode = transcode_module._encode

    def lose_the_end(part: Path, *rest: object) -> object:
        written = encode(part, *rest)
        part.write_bytes(part.read_bytes()[: written.num_bytes // 2])
        return written

    monkeypatch.setattr(transcode_module, "_encode", lose_the_end)
    with pytest.raises(OSError, match="of 3 frames can be read back"):
        transcode(source, tmp_path / "o.mp4", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_playing_time(tmp_path: Path, make_video: MakeVideo, broken_videos: dict[str, Path]) -> None:
    assert playing_time(make_video(tmp_path / "v.mp4", 30, fps=12)) == pytest.approx(2.5, abs=0.1)
    with pytest.raises(VideoError, match="not a video"):
        playing_time(broken_videos["text"])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (Settings(fps=0), "fps=0"),
        (Settings(fps=math.nan), "fps=nan"),
        (Settings(size=33), "size=33"),
        (Settings(size=0), "size=0"),
        (Settings(crf=60), "crf=60"),
    ],
)
def test_bad_settings(tmp_path: Path, settings: Settings, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        transcode(tmp_path / "v.mp4", tmp_path / "o.mp4", settings)
