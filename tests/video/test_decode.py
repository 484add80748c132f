from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from centerclip_pl.errors import VideoError
from centerclip_pl.video.decode import decode, read_frames
from centerclip_pl.video.sampling import uniform_indices

MakeVideo = Callable[..., Path]
GREY = 4  # frame k of make_video has grey level 4 k


def frame_numbers(frames: torch.Tensor) -> list[int]:
    """Which frames these are, told by their grey level."""
    assert frames.dtype == torch.uint8
    return (frames.float().mean(dim=(1, 2, 3)) / GREY).round().int().tolist()


@pytest.mark.parametrize("gop", [4, 60])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_frames_asked_for_come_back(tmp_path: Path, make_video: MakeVideo, gop: int, codec: str) -> None:
    suffix = ".mp4" if codec == "libx264" else ".avi"
    path = make_video(tmp_path / f"v{suffix}", 60, size=(64, 48), codec=codec, gop=gop)
    frames = read_frames(path, lambda n: uniform_indices(n, 7))
    assert frames.shape == (7, 3, 48, 64)
    assert frame_numbers(frames) == uniform_indices(60, 7)
    assert frame_numbers(read_frames(path, lambda n: [0, 1, 1, n - 1, n - 1])) == [0, 1, 1, 59, 59]


def test_colours_are_rgb(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "red.mp4", 3, color_fn=lambda _: (220, 30, 10))
    mean = read_frames(path, lambda n: [1]).float().mean(dim=(0, 2, 3))
    assert torch.allclose(mean, torch.tensor([220.0, 30.0, 10.0]), atol=6)


def test_choose_is_told_the_number_of_frames(tmp_path: Path, make_video: MakeVideo) -> None:
    told = []

    def choose(n: int) -> list[int]:
        told.append(n)
        return [0]

    read_frames(make_video(tmp_path / "a.mp4", 1), choose)
    read_frames(make_video(tmp_path / "b.mp4", 17), choose)
    assert told == [1, 17]


@pytest.mark.parametrize("shift", [0, 5])
@pytest.mark.parametrize(
    ("start", "end", "first", "count"),
    [(1.0, 2.0, 12, 12), (None, 0.5, 0, 6), (2.0, None, 24, 12), (0.04, 0.05, 0, 1), (1.0, 99.0, 12, 24)],
)
def test_start_and_end_restrict_the_frames(
    tmp_path: Path,
    make_video: MakeVideo,
    shift: int,
    start: float | None,
    end: float | None,
    first: int,
    count: int,
) -> None:
    path = make_video(tmp_path / "v.mp4", 36 + shift, fps=12, gop=99, shift=shift)
    frames = read_frames(path, lambda n: range(n), start, end)
    assert frame_numbers(frames) == list(range(first + shift, first + shift + count))


def test_a_window_after_the_end_is_refused(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "v.mp4", 24, fps=12)
    with pytest.raises(VideoError, match=r"v\.mp4: has no frame between 5 s and 7 s \(it lasts 2\.00 s\)"):
        read_frames(path, lambda n: [0], 5, 7)


def decoded_by_pyav(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("gop", [8, 99])
@pytest.mark.parametrize("wanted", [3, 12, 40])
def test_files_cut_without_reencoding_give_the_frames_that_players_show(
    tmp_path: Path, make_video: MakeVideo, gop: int, wanted: int
) -> None:
    path = make_video(tmp_path / "cut.mp4", 60, gop=gop, shift=21)
    shown = decoded_by_pyav(path)
    frames = read_frames(path, lambda n: uniform_indices(n, wanted))
    assert len(shown) == 39
    expected = np.stack([shown[index] for index in uniform_indices(39, wanted)])
    assert np.array_equal(frames.permute(0, 2, 3, 1).numpy(), expected)


def write_with_empty_packets(path: Path, num_frames: int, every: int, empty_packets: int = 1) -> None:
    """An AVI with packets that mean "as before" and give no picture, after every so many others."""
    not_coded = bytes([0, 0, 1, 0xB6, 0b01010000, 0b10011111])  # MPEG-4 Part 2: a P-VOP with vop_coded = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        tick = 0
        for index in range(num_frames + 1):
            frame = None
            if index < num_frames:
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), GREY * index, np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 12)
            packets = list(stream.encode(frame))
            if index % every == every - 1:
                packets += [av.Packet(not_coded) for _ in range(empty_packets)]
            for packet in packets:
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 12), tick, tick
                container.mux(packet)
                tick += 1


def test_no_frame_is_made_up_where_the_count_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "lies.avi"
    write_with_empty_packets(path, 48, 15)
    counts = []

    def all_of_them(n: int) -> range:
        counts.append(n)
        return range(n)

    assert frame_numbers(read_frames(path, all_of_them)) == list(range(48))
    assert counts[0] > 48  # what the container says
    assert counts[-1] == 48


def test_mostly_empty_packets_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "mostly_empty.avi"
    write_with_empty_packets(path, 30, 1, empty_packets=2)
    with pytest.raises(VideoError, match=r"mostly_empty\.avi: is damaged: only \d+ of \d+ frames can be decoded"):
        read_frames(path, lambda n: range(n))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "does not exist"),
        ("empty", "is empty"),
        ("text", "is not a video"),
        ("audio", r"has no video stream \(audio only\)"),
        ("no_index", r"is cut off: its index \(moov\) is missing"),
        ("cut", "is damaged or cut off"),
        ("damaged", "is damaged"),
    ],
)
def test_unusable_files_are_named_with_the_reason(broken_videos: dict[str, Path], kind: str, reason: str) -> None:
    with pytest.raises(VideoError, match=reason) as caught:
        read_frames(broken_videos[kind], lambda n: [0, n // 2, n - 1])
    assert caught.value.path == str(broken_videos[kind])
    assert str(broken_videos[kind]) in str(caught.value)


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is a folder"):
        read_frames(tmp_path, lambda n: [0])


def test_info(tmp_path: Path, make_video: MakeVideo) -> None:
    info = decode(make_video(tmp_path / "v.mp4", 30, size=(80, 40), fps=15), lambda n: [n - 1]).info
    assert (info.num_frames, info.width, info.height) == (30, 80, 40)
    assert info.fps == pytest.approx(15)
    assert info.duration == pytest.approx(2.0, abs=0.01)


def test_names_with_odd_characters(tmp_path: Path, make_video: MakeVideo) -> None:
    path = tmp_path / "ein Hündchen % #1.mp4"
    shutil.copy(make_video(tmp_path / "plain.mp4", 5), path)
    assert frame_numbers(read_frames(path, lambda n: [n - 1])) == [4]
