"""Video files to read, as datasets have them: moving pictures with texture, in H.264."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from centerclip_pl.video.transforms import resize_and_crop

WIDTH, HEIGHT, FPS = 320, 240, 25


def write_raw(path: Path, seconds: float, seed: int) -> Path:
    """A clip as it comes from the web: 320 x 240, 25 frames a second, x264's defaults (a key frame every 10 s).

    A smooth random texture drifts over the picture, another one against it, and there is some noise: neither still,
    which would be decoded for nothing, nor all noise, which no camera sees.
    """
    rng = np.random.default_rng(seed)
    far, near = (_texture(rng, size) for size in (24, 60))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(int(seconds * FPS)):
            shifted = np.roll(far, (index, 2 * index), axis=(0, 1)) // 2 + np.roll(near, -3 * index, axis=1) // 2
            noise = rng.integers(0, 8, shifted.shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(shifted + noise, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _texture(rng: np.random.Generator, cells: int) -> np.ndarray:
    """uint8 ``[HEIGHT, WIDTH, 3]``, values up to 240."""
    coarse = torch.from_numpy(rng.integers(0, 240, (1, 3, cells, cells * 4 // 3), dtype=np.uint8))
    smooth = torch.nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic", antialias=True)
    return smooth[0].permute(1, 2, 0).clamp(0, 240).numpy()  # (3, H, W) -> (H, W, 3)


def read_whole(path: Path, choose: list[int], size: int, convert_all: bool) -> torch.Tensor:
    """The other way to read a clip: decode every frame with PyAV, then pick.

    Args:
        path: the file.
        choose: indices of the wanted frames.
        size: height and width of the result.
        convert_all: whether every frame becomes RGB, or only those picked.

    Returns:
        uint8 ``[len(choose), 3, size, size]``.
    """
    wanted = set(choose)
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1  # one worker, one core, as in a loader's process
        for index, frame in enumerate(container.decode(stream)):
            if convert_all or index in wanted:
                pictures.append(frame.to_ndarray(format="rgb24", threads=1))
    if convert_all:
        pictures = [pictures[index] for index in choose]
    frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)
    return resize_and_crop(frames, size)
