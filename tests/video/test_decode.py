from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from centerclip_pl.errors import ConfigError, VideoError
from centerclip_pl.video import decode as decode_module
from centerclip_pl.video.decode import check_decoder, decode, read_frames
from centerclip_pl.video.sampling import uniform_indices

MakeVideo = Callable[..., Path]
GREY = 4  # frame k of make_video has grey level 4 k


def frame_numbers(frames: torch.Tensor) -> list[int]:
    """Which frames these are, told by their grey level."""
    assert frames.dtype == torch.uint8
    return (frames.float().mean(dim=(1, 2, 3)) / GREY).round().int().tolist()


@pytest.mark.parametrize("gop", [4, 60])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_frames_asked_for_come_back(
    tmp_path: Path, make_video: MakeVideo, gop: int, codec: str, decoder: str
) -> None:
    suffix = ".mp4" if codec == "libx264" else ".avi"
    path = make_video(tmp_path / f"v{suffix}", 60, size=(64, 48), codec=codec, gop=gop)
    frames = read_frames(path, lambda n: uniform_indices(n, 7), decoder=decoder)
    assert frames.shape == (7, 3, 48, 64)
    assert frame_numbers(frames) == uniform_indices(60, 7)
    assert frame_numbers(read_frames(path, lambda n: [0, 1, 1, n - 1, n - 1], decoder=decoder)) == [0, 1, 1, 59, 59]


def test_colours_are_rgb(tmp_path: Path, make_video: MakeVideo, decoder: str) -> None:
    path = make_video(tmp_path / "red.mp4", 3, color_fn=lambda _: (220, 30, 10))
    mean = read_frames(path, lambda n: [1], decoder=decoder).float().mean(dim=(0, 2, 3))
    assert torch.allclose(mean, torch.tensor([220.0, 30.0, 10.0]), atol=6)


def test_choose_is_told_the_number_of_frames(tmp_path: Path, make_video: MakeVideo, decoder: str) -> None:
    told = []

    def choose(n: int) -> list[int]:
        told.append(n)
        return [0]

    read_frames(make_video(tmp_path / "a.mp4", 1), choose, decoder=decoder)
    read_frames(make_video(tmp_path / "b.mp4", 17), choose, decoder=decoder)
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
    decoder: str,
) -> None:
    path = make_video(tmp_path / "v.mp4", 36 + shift, fps=12, gop=99, shift=shift)
    frames = read_frames(path, lambda n: range(n), start, end, decoder=decoder)
    assert frame_numbers(frames) == list(range(first + shift, first + shift + count))


def test_a_window_after_the_end_is_refused(tmp_path: Path, make_video: MakeVideo, decoder: str) -> None:
    path = make_video(tmp_path / "v.mp4", 24, fps=12)
    with pytest.raises(VideoError, match=r"v\.mp4: has no frame between 5 s and 7 s \(it lasts 2\.00 s\)"):
        read_frames(path, lambda n: [0], 5, 7, decoder=decoder)


def decoded_by_pyav(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("gop", [8, 99])
@pytest.mark.parametrize("wanted", [3, 12, 40])
def test_files_cut_without_reencoding_give_the_frames_that_players_show(
    tmp_path: Path, make_video: MakeVideo, gop: int, wanted: int, decoder: str
) -> None:
    path = make_video(tmp_path / "cut.mp4", 60, gop=gop, shift=21)
    shown = decoded_by_pyav(path)
    frames = read_frames(path, lambda n: uniform_indices(n, wanted), decoder=decoder)
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


def test_no_frame_is_made_up_where_the_count_is_wrong(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "lies.avi"
    write_with_empty_packets(path, 48, 15)
    counts = []

    def all_of_them(n: int) -> range:
        counts.append(n)
        return range(n)

    assert frame_numbers(read_frames(path, all_of_them, decoder=decoder)) == list(range(48))
    assert counts[0] > 48  # what the container says
    assert counts[-1] == 48


def test_mostly_empty_packets_are_damage(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "mostly_empty.avi"
    write_with_empty_packets(path, 30, 1, empty_packets=2)
    with pytest.raises(VideoError, match=r"mostly_empty\.avi: is damaged: only \d+ of \d+ frames can be decoded"):
        read_frames(path, lambda n: range(n), decoder=decoder)


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
def test_unusable_files_are_named_with_the_reason(
    broken_videos: dict[str, Path], kind: str, reason: str, decoder: str
) -> None:
    with pytest.raises(VideoError, match=reason) as caught:
        read_frames(broken_videos[kind], lambda n: [0, n // 2, n - 1], decoder=decoder)
    assert caught.value.path == str(broken_videos[kind])
    assert str(broken_videos[kind]) in str(caught.value)


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is a folder"):
        read_frames(tmp_path, lambda n: [0])


def test_info(tmp_path: Path, make_video: MakeVideo, decoder: str) -> None:
    info = decode(make_video(tmp_path / "v.mp4", 30, size=(80, 40), fps=15), lambda n: [n - 1], decoder=decoder).info
    assert (info.num_frames, info.width, info.height) == (30, 80, 40)
    assert info.fps == pytest.approx(15)
    assert info.duration == pytest.approx(2.0, abs=0.01)


def test_names_with_odd_characters(tmp_path: Path, make_video: MakeVideo, decoder: str) -> None:
    path = tmp_path / "ein Hündchen % #1.mp4"
    shutil.copy(make_video(tmp_path / "plain.mp4", 5), path)
    assert frame_numbers(read_frames(path, lambda n: [n - 1], decoder=decoder)) == [4]


def test_sampling_by_time(tmp_path: Path, make_video: MakeVideo, decoder: str) -> None:
    path = make_video(tmp_path / "v.mp4", 40, fps=12, gop=15)
    counts = []

    def all_of_them(n: int) -> range:
        counts.append(n)
        return range(n)

    assert frame_numbers(read_frames(path, all_of_them, fps=1, decoder=decoder)) == [0, 12, 24, 36]
    assert frame_numbers(read_frames(path, all_of_them, 0.5, 2.0, fps=3, decoder=decoder)) == [6, 10, 14, 18, 22]
    assert frame_numbers(read_frames(path, all_of_them, fps=25, decoder=decoder)) == list(range(40))
    assert counts == [4, 5, 40]
    with pytest.raises(VideoError, match="has no frame between 9 s and its end"):
        read_frames(path, all_of_them, 9, fps=1, decoder=decoder)
    with pytest.raises(ConfigError, match="fps=0"):
        read_frames(path, all_of_them, fps=0, decoder=decoder)


def test_an_unknown_decoder_is_refused(tmp_path: Path, make_video: MakeVideo) -> None:
    with pytest.raises(ConfigError, match=r"decoder=opencv: .*\n.*decord, pyav, torchcodec"):
        decode(make_video(tmp_path / "v.mp4", 2), range, decoder="opencv")
    with pytest.raises(ConfigError, match="decoder=opencv"):
        check_decoder("opencv")
    check_decoder("pyav")
    check_decoder("decord")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (None, "the package torchcodec is not installed"),
        ("raise OSError('Could not load this library: libtorchcodec.so')", "cannot be loaded .*libtorchcodec.so"),
        ("raise RuntimeError('no FFmpeg libraries\\nand more')", r"cannot be loaded \(no FFmpeg libraries\)"),
    ],
)
def test_torchcodec_that_cannot_be_used_says_what_to_install(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch, code: str | None, problem: str
) -> None:
    path = make_video(tmp_path / "v.mp4", 2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    if code is None:
        monkeypatch.setitem(sys.modules, "torchcodec", None)
    else:
        (tmp_path / "torchcodec").mkdir()
        (tmp_path / "torchcodec" / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
    for ask in (lambda: check_decoder("torchcodec"), lambda: decode(path, range, decoder="torchcodec")):
        with pytest.raises(ConfigError, match=problem) as caught:
            ask()
        assert "pip install torchcodec" in str(caught.value.next_step)
        assert "FFmpeg" in str(caught.value.next_step)


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_no_torch_is_needed(tmp_path: Path, make_video: MakeVideo, decoder: str) -> None:
    path = make_video(tmp_path / "v.mp4", 5)
    script = (
        "import sys; from centerclip_pl.video.decode import decode; "
        f"print(len(decode({str(path)!r}, range, decoder={decoder!r}).frames), 'torch' in sys.modules)"
    )
    package = str(Path(decode_module.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": package}
    )
    assert run.stdout.split() == ["5", "False"], run.stderr
