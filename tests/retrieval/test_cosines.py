"""Cosines against rational arithmetic; and whatever is computed beside a pair, its cosine stays the same to the bit."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl.retrieval import cosine_logits
from centerclip_pl.retrieval import cosines as module
from centerclip_pl.retrieval.cosines import Cosines, of_pairs, products, sum_error
from centerclip_pl.types import VideoEmbedding


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_unit(vector: list[Decimal]) -> list[Decimal]:
    norm = max(sum(x * x for x in vector).sqrt(), Decimal("1e-12"))
    return [x / norm for x in vector]


def slow_cosine(text: Tensor, segments: Tensor, mask: Tensor) -> Decimal:
    """Of one text ``[D]`` and one video, ``[S, D]`` and ``[S]``, with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        units = [slow_unit([Decimal(x) for x in row]) for row in segments[mask].tolist()]
        pooled = slow_unit([sum(column, Decimal(0)) / len(units) for column in zip(*units, strict=True)])
        return sum(
            (a * b for a, b in zip(slow_unit([Decimal(x) for x in text.tolist()]), pooled, strict=True)), Decimal(0)
        )


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, 1e-42])
def test_is_the_cosine_rounded_to_float32(channels: int, scale: float) -> None:
    """Numbers that underflow or overflow when squared in float32 included; below 1e-12 the norm is no longer one."""
    text, segments = scale * noise(5, channels, seed=0), scale * noise(4, 3, channels, seed=1)
    mask = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [True, True, False]])
    segments[1, 1] = math.nan  # does not count
    found = Cosines(text, VideoEmbedding(segments, mask)).block(slice(0, 4))
    for row in range(5):
        for column in range(4):
            exact = slow_cosine(text[row], segments[column], mask[column])
            score = found[row, column]
            above, below = (score.nextafter(torch.tensor(side)).double().item() for side in (math.inf, -math.inf))
            # The nearest float32, but for what float64 may have moved across the middle of two.
            half = Decimal(max(above - score.double().item(), score.double().item() - below)) / 2
            assert abs(Decimal(score.double().item()) - exact) <= half + Decimal("1e-15") * abs(exact) + Decimal(
                "1e-16"
            )


def test_is_the_similarity_of_the_mean_of_segments() -> None:
    text, video = noise(20, 32, seed=0), VideoEmbedding(noise(9, 4, 32, seed=1), noise(9, 4, seed=2) > -0.5)
    video.mask[:, 0] = True
    expected = cosine_logits(text.double(), VideoEmbedding(video.segments.double(), video.mask)).float()
    torch.testing.assert_close(Cosines(text, video).block(slice(0, 9)), expected, atol=6e-8, rtol=0)


@st.composite
def embeddings(draw: st.DrawFn) -> tuple[Tensor, VideoEmbedding]:
    """Of random directions, or such as make many cosines equal, nearly equal, zero or one."""
    texts, videos = draw(st.integers(1, 30)), draw(st.integers(1, 20))
    segments, channels = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 5, 16, 33]))
    seed = draw(st.integers(0, 2**31))
    text, video = noise(texts, channels, seed=seed), noise(videos, segments, channels, seed=seed + 1)
    kind = draw(st.sampled_from(["random", "axes", "near", "same", "zero", "scales"]))
    if kind == "axes":
        text, video = text.argmax(1, keepdim=True) == torch.arange(channels), video.round()
        text, video[..., 0] = text.float(), video[..., 0] + (video == 0).all(-1)
    elif kind == "near":
        text, video = text[:1] + 1e-7 * text, video[:1, :1] + 1e-7 * video
    elif kind == "same":
        text, video = text[:1].expand(texts, -1), video[:1, :1].expand(videos, segments, -1)
    elif kind == "zero":
        text, video = text * (torch.arange(texts) % 2)[:, None], video * (torch.arange(videos) % 3 > 0)[:, None, None]
    elif kind == "scales":
        text = text * 10.0 ** torch.linspace(-40, 37, texts)[:, None]
        video = video * 10.0 ** torch.linspace(37, -40, videos)[:, None, None]
    mask = torch.rand(videos, segments, generator=torch.Generator().manual_seed(seed)) < 0.7
    mask[:, draw(st.integers(0, segments - 1))] = True
    return text.contiguous(), VideoEmbedding(video.contiguous(), mask)


@settings(max_examples=150, deadline=None)
@given(embeddings(), st.integers(1, 25), st.integers(1, 40))
def test_a_pair_has_one_cosine_in_any_company(case: tuple[Tensor, VideoEmbedding], chunk: int, at_once: int) -> None:
    text, video = case
    cosines = Cosines(text, video)
    texts, videos = cosines.texts(slice(None)), cosines.videos(slice(None))
    pairs = torch.cartesian_prod(torch.arange(len(text)), torch.arange(len(video.mask)))
    defined = of_pairs(texts, videos, *pairs.T).view(len(text), -1)
    assert products(texts, videos).equal(defined)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", at_once)
        parts = [slice(start, start + chunk) for start in range(0, len(video.mask), chunk)]
        assert torch.cat([cosines.block(part) for part in parts], 1).equal(defined)
        alone = [
            Cosines(text[t : t + 1], VideoEmbedding(video.segments[v : v + 1], video.mask[v : v + 1])).block(
                slice(0, 1)
            )
            for t, v in pairs[::37].tolist()
        ]
    assert torch.cat(alone).flatten().equal(defined.flatten()[::37])


def test_every_pair_may_be_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is the definition also where the product of matrices decides nothing."""
    cosines = Cosines(noise(30, 16, seed=0), VideoEmbedding(noise(20, 1, 16, seed=1), torch.ones(20, 1)))
    expected = cosines.block(slice(0, 20))
    monkeypatch.setattr(module, "sum_error", lambda *_, **__: 0.1)
    assert cosines.block(slice(0, 20)).equal(expected)


@pytest.mark.parametrize("channels", [1, 17, 512, 3000])
def test_errors_of_products_stay_within_the_bound(channels: int) -> None:
    """Also where all terms have one sign, so that errors add up."""
    for make in (torch.abs, torch.Tensor.clone):
        text, video = make(noise(64, channels, seed=0)), make(noise(64, 1, channels, seed=1))
        cosines = Cosines(text, VideoEmbedding(video, torch.ones(64, 1)))
        texts, videos = cosines.texts(slice(None)), cosines.videos(slice(None))
        screened = texts.float() @ videos.float().mT
        difference = (screened - products(texts, videos)).abs().max().item()
        assert difference <= sum_error(channels, 2.0**-24)
    assert sum_error(512, 2.0**-24) == pytest.approx(3.1e-5, rel=0.02)
    assert sum_error(10**6, 2.0**-24) == math.inf
