"""meanP against its definition in plain Python, and on what is masked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.retrieval import cosine_logits, pool_segments
from centerclip_pl.types import VideoEmbedding


def random_video(batch: int = 4, segments: int = 3, channels: int = 8, seed: int = 0) -> VideoEmbedding:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, segments, generator=generator) < 0.6
    mask[:, 0] = True
    return VideoEmbedding(torch.randn(batch, segments, channels, generator=generator), mask)


def slow_unit(vector: list[float]) -> list[float]:
    norm = math.hypot(*vector)
    return [value / norm for value in vector]


def slow_pool(segments: list[list[float]], mask: list[bool]) -> list[float]:
    units = [slow_unit(segment) for segment, real in zip(segments, mask, strict=True) if real]
    return slow_unit([sum(column) / len(units) for column in zip(*units, strict=True)])


def test_pool_is_its_definition() -> None:
    video = random_video()
    expected = [slow_pool(s, m) for s, m in zip(video.segments.tolist(), video.mask.tolist(), strict=True)]
    torch.testing.assert_close(pool_segments(video), torch.tensor(expected))


def test_logits_are_scaled_cosines() -> None:
    video, text = random_video(), torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    pooled = [slow_pool(s, m) for s, m in zip(video.segments.tolist(), video.mask.tolist(), strict=True)]
    expected = torch.tensor(
        [[sum(a * b for a, b in zip(slow_unit(t), p, strict=True)) for p in pooled] for t in text.tolist()]
    )
    torch.testing.assert_close(cosine_logits(text, video), expected)
    torch.testing.assert_close(cosine_logits(text, video, 2.5), expected * math.exp(2.5))
    torch.testing.assert_close(cosine_logits(text, video, torch.tensor(2.5)), expected * math.exp(2.5))


def test_masked_segments_may_hold_anything() -> None:
    video, text = random_video(), torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    expected = cosine_logits(text, video)
    spoilt = video.segments.masked_fill(~video.mask[..., None], math.nan).requires_grad_()
    logits = cosine_logits(text, VideoEmbedding(spoilt, video.mask))
    assert logits.equal(expected)
    logits.sum().backward()
    assert spoilt.grad is not None
    assert spoilt.grad.isfinite().all()
    assert (spoilt.grad[~video.mask] == 0).all()
    assert (spoilt.grad[video.mask] != 0).any(dim=1).all()


def test_gradients() -> None:
    video = random_video(2, 3, 4)
    text = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    segments = video.segments.double().requires_grad_()
    scale = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)

    def logits(text: Tensor, segments: Tensor, scale: Tensor) -> Tensor:
        return cosine_logits(text, VideoEmbedding(segments, video.mask), scale)

    assert torch.autograd.gradcheck(logits, (text, segments, scale))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_float32(dtype: torch.dtype) -> None:
    video = random_video()
    # 300 squared overflows float16.
    text, segments = 300 * torch.ones(2, 8).cumsum(1).to(dtype) / 8, (300 * video.segments).to(dtype)
    logits = cosine_logits(text, VideoEmbedding(segments, video.mask))
    assert logits.dtype == torch.float32
    assert logits.equal(cosine_logits(text.float(), VideoEmbedding(segments.float(), video.mask)))


def test_autocast_changes_nothing() -> None:
    video, text = random_video(), torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = cosine_logits(text, video, 4.6)
    assert logits.equal(cosine_logits(text, video, 4.6))


def test_integer_masks_and_no_texts() -> None:
    video = random_video()
    assert pool_segments(VideoEmbedding(video.segments, video.mask.long())).equal(pool_segments(video))
    assert cosine_logits(torch.zeros(0, 8), video).shape == (0, 4)


def test_a_video_without_segments_is_named() -> None:
    video = random_video()
    video.mask[2] = False
    with pytest.raises(NonFiniteError, match="video 2 of the batch"):
        pool_segments(video)


@pytest.mark.parametrize(
    ("text", "segments", "mask"),
    [((5, 8), (4, 3, 7), (4, 3)), ((8,), (4, 3, 8), (4, 3)), ((5, 8), (4, 3, 8), (4, 2)), ((5, 8), (4, 8), (4, 8))],
)
def test_shapes_that_do_not_fit(text: tuple[int, ...], segments: tuple[int, ...], mask: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="shape"):
        cosine_logits(torch.zeros(text), VideoEmbedding(torch.zeros(segments), torch.ones(mask, dtype=torch.bool)))
