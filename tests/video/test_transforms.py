from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from centerclip_pl.errors import ConfigError
from centerclip_pl.video.transforms import resize_and_crop


def pillow(frame: np.ndarray, size: int) -> np.ndarray:
    """CLIP's own preprocessing up to normalisation: bicubic to the shorter side, centre crop. [H, W, 3] -> the same."""
    image = Image.fromarray(frame)
    width, height = image.size
    short = min(width, height)
    image = image.resize((size * width // short, size * height // short), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def picture(height: int, width: int) -> np.ndarray:
    """Smooth shades, hard edges and noise; bicubic overshoots at the edges."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 255 // width, y * 255 // height, ((x // 7 + y // 5) % 2) * 255], axis=-1)
    noise = np.random.default_rng(0).integers(-20, 20, base.shape)
    return np.clip(base + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(240, 320), (320, 240), (100, 101), (64, 64), (31, 200), (57, 33)])
@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("channels_last", [True, False])
def test_agrees_with_pillow_within_one_level(shape: tuple[int, int], size: int, channels_last: bool) -> None:
    frame = picture(*shape)
    frames = torch.from_numpy(np.stack([frame, frame[::-1]])).permute(0, 3, 1, 2)
    if not channels_last:
        frames = frames.contiguous()
    result = resize_and_crop(frames, size)
    assert result.shape == (2, 3, size, size)
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    expected = np.stack([pillow(frame, size), pillow(np.ascontiguousarray(frame[::-1]), size)])
    difference = np.abs(result.permute(0, 2, 3, 1).numpy().astype(int) - expected)
    # Both round between the two passes; enlarging noise, a pixel in 100,000 is two levels off.
    assert difference.max() <= (2 if size > min(shape) else 1)
    assert (difference > 1).mean() < 1e-4
    assert difference.mean() < 0.02


def test_frames_of_the_right_size_are_left_alone() -> None:
    frames = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(resize_and_crop(frames, 32), frames)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size=0"):
        resize_and_crop(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0)
    with pytest.raises(ConfigError, match="float32"):
        resize_and_crop(torch.zeros(1, 3, 8, 8), 4)
