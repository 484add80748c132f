"""Tiny real video files for the whole test suite."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

MakeVideo = Callable[..., Path]


def _grey_ramp(index: int) -> tuple[int, int, int]:
    return (4 * index % 256,) * 3


def _make_video(
    path: str | Path,
    num_frames: int = 24,
    size: tuple[int, int] = (64, 48),
    fps: int = 12,
    color_fn: Callable[[int], Any] = _grey_ramp,
    *,
    codec: str = "libx264",
    gop: int = 12,
    shift: int = 0,
    faststart: bool = False,
) -> Path:
    """Write a video whose frame ``k`` is ``color_fn(k)``: an RGB colour, or an array ``[height, width, 3]``.

    ``size`` is (width, height). ``shift`` gives the first so many frames negative times, which containers then hide
    behind an edit list, as in files that were cut without re-encoding. ``faststart`` puts the index first.
    """
    width, height = size
    options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        x264 = {"crf": "6", "preset": "ultrafast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=fps, options=x264)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", gop
        if codec != "libx264":
            stream.bit_rate = 4_000_000

        def mux(packets: list[av.Packet]) -> None:
            for packet in packets:
                packet.pts -= shift
                packet.dts -= shift
                container.mux(packet)

        for index in range(num_frames):
            picture = np.empty((height, width, 3), dtype=np.uint8)
            picture[:] = color_fn(index)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            mux(stream.encode(frame))
        mux(stream.encode())
    return Path(path)


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """``make_video(path, num_frames=24, size=(64, 48), fps=12, color_fn=...)`` writes a real video file."""
    return _make_video


@pytest.fixture(scope="session")
def broken_videos(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> dict[str, Path]:
    """One file for each way of being unusable; the key says which."""
    folder = tmp_path_factory.mktemp("broken")
    noise = np.random.default_rng(0)
    whole = make_video(
        folder / "whole.mp4", 48, faststart=True, color_fn=lambda _: noise.integers(0, 256, (48, 64, 3), np.uint8)
    ).read_bytes()
    late_index = make_video(folder / "late.mp4", 48).read_bytes()
    files = {
        name: folder / f"{name}.mp4" for name in ("missing", "empty", "text", "audio", "no_index", "cut", "damaged")
    }
    files["empty"].write_bytes(b"")
    files["text"].write_text("This is not a video.\n" * 40)
    with av.open(str(files["audio"]), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        for packet in [*stream.encode(sound), *stream.encode()]:
            container.mux(packet)
    files["no_index"].write_bytes(late_index[: len(late_index) // 2])
    files["cut"].write_bytes(whole[: int(len(whole) * 0.6)])
    middle = whole.find(b"mdat") + 200
    files["damaged"].write_bytes(whole[:middle] + noise.bytes(len(whole) - middle))
    return files


def _beside(name: str) -> ModuleType:
    """A module of helpers in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """``write_run(folder, method=..., seed=..., ...)`` fabricates a run folder; see ``fabricated_runs.py``."""
    write: Callable[..., Path] = _beside("fabricated_runs").write_run
    return write


WriteMiniature = Callable[[str, Path], dict[str, str]]


@pytest.fixture(scope="session")
def write_miniature(make_video: MakeVideo) -> WriteMiniature:
    """``write_miniature(name, root)`` writes a dataset in small, and returns the options it needs."""
    module = _beside("miniatures")

    def write(name: str, root: Path) -> dict[str, str]:
        root.mkdir(parents=True, exist_ok=True)
        return module.MINIATURES[name](root, make_video)

    return write
