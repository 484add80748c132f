"""Ranks in one pass over blocks against plain loops over the matrix of cosines, where float32 alone would not do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl.retrieval import Ranks, ranks_from_matrix, screening
from centerclip_pl.retrieval.cosines import Cosines, of_pairs
from centerclip_pl.retrieval.screening import ranks_of_cosines
from centerclip_pl.types import VideoEmbedding


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one_segment(videos: Tensor) -> VideoEmbedding:
    return VideoEmbedding(videos[:, None], torch.ones(len(videos), 1, dtype=torch.bool))


def slow_rank(own: float, others: list[float]) -> float:
    return 1 + sum(other > own for other in others) + sum(other == own for other in others) / 2


def slow_ranks(scores: list[list[float]], own: list[int]) -> tuple[list[float], list[float]]:
    """By loops over the pairs; the own pair is left out by its place, not by its score."""
    t2v = [slow_rank(row[v], [s for u, s in enumerate(row) if u != v]) for row, v in zip(scores, own, strict=True)]
    owners = sorted(set(own))
    v2t = []
    for video in owners:
        best = {owner: max(row[video] for row, v in zip(scores, own, strict=True) if v == owner) for owner in owners}
        v2t.append(slow_rank(best[video], [score for owner, score in best.items() if owner != video]))
    return t2v, v2t


def defined(cosines: Cosines) -> Tensor:
    """All cosines, pair by pair."""
    texts, videos = cosines.texts(slice(None)), cosines.videos(slice(None))
    rows, columns = torch.cartesian_prod(torch.arange(len(texts)), torch.arange(len(videos))).T
    return of_pairs(texts, videos, rows, columns).view(len(texts), len(videos))


def assert_ranks(ranks: Ranks, cosines: Cosines, own: Tensor) -> None:
    t2v, v2t = slow_ranks(defined(cosines).tolist(), own.tolist())
    assert ranks.t2v.tolist() == t2v
    assert ranks.v2t.tolist() == v2t
    assert ranks.videos.tolist() == sorted(set(own.tolist()))
    assert ranks.t2v.dtype == ranks.v2t.dtype == torch.float64


@st.composite
def galleries(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Texts, videos, and the video of each text: ties, near ties, copies; none, one or many texts a video."""
    texts, videos = draw(st.integers(1, 40)), draw(st.integers(1, 30))
    seed, channels = draw(st.integers(0, 2**31)), draw(st.sampled_from([1, 3, 8, 20]))
    generator = torch.Generator().manual_seed(seed)
    match draw(st.sampled_from(["any", "each one", "one has all", "square"])):
        case "any":
            own = torch.randint(videos, (texts,), generator=generator)
        case "each one":
            own = torch.randperm(videos, generator=generator)[: min(texts, videos)]
        case "one has all":
            own = torch.full((texts,), draw(st.integers(0, videos - 1)))
            own[: texts // 3] = torch.randint(videos, (texts // 3,), generator=generator)
        case _:
            own = torch.arange(videos)
    shown = noise(videos, channels, seed=seed)
    match draw(st.sampled_from(["random", "copies", "near", "same", "axes", "zero"])):
        case "copies":
            shown = shown[torch.randint(max(1, videos // 3), (videos,), generator=generator)]
        case "near":
            shown = shown[:1] + draw(st.sampled_from([1e-7, 1e-6, 1e-4])) * shown
        case "same":
            shown = shown[:1].expand(videos, -1)
        case "axes":
            shown = F.one_hot(shown.abs().argmax(1), channels).float()
        case "zero":
            shown = torch.zeros(videos, channels)
    text = shown[own] + draw(st.sampled_from([0.0, 1e-7, 1.0])) * noise(len(own), channels, seed=seed + 1)
    return text.contiguous(), shown.contiguous(), own


@settings(max_examples=120, deadline=None)
@given(
    galleries(), st.none() | st.integers(1, 33), st.sampled_from([1, 7, 64, 2**21]), st.sampled_from([0.001, 1, 1e9])
)
def test_is_the_slow_reference_whatever_the_blocks(
    case: tuple[Tensor, Tensor, Tensor], chunk_size: int | None, pairs: int, dense: float
) -> None:
    """`dense` makes undecided pairs go one by one, or whole blocks to the float64 product, or some this way."""
    text, videos, own = case
    cosines = Cosines(text, one_segment(videos))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "_PAIRS", pairs)
        patch.setattr(screening, "_DENSE", dense)
        assert_ranks(ranks_of_cosines(cosines, own, chunk_size), cosines, own)


@pytest.mark.parametrize("texts", [1, 2])
def test_float32_alone_would_misplace_queries(texts: int) -> None:
    """The videos of this gallery differ by so little that the order of float32 products is noise."""
    videos = noise(1, 64, seed=0) + 3e-6 * noise(150, 64, seed=1)
    own = torch.arange(150).repeat(texts)
    text = videos[own] + 3e-6 * noise(len(own), 64, seed=2)
    plain = ranks_from_matrix(F.normalize(text, dim=-1) @ F.normalize(videos, dim=-1).mT, own)
    cosines = Cosines(text, one_segment(videos))
    exact = ranks_of_cosines(cosines, own)
    assert_ranks(exact, cosines, own)
    assert (plain.t2v != exact.t2v).any()
    assert (plain.v2t != exact.v2t).any()


@pytest.fixture
def _other_settings() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("_other_settings")
def test_less_precise_products_on_request_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16, which is three digits, where the program or its user asked for faster products."""
    videos, own = noise(300, 64, seed=0), torch.arange(300)
    cosines = Cosines(videos + 3 * noise(300, 64, seed=1), one_segment(videos))
    expected = ranks_of_cosines(cosines, own)
    assert_ranks(expected, cosines, own)
    with torch.autocast("cpu", torch.bfloat16):
        found = ranks_of_cosines(cosines, own)
        assert found.t2v.equal(expected.t2v)
        assert found.v2t.equal(expected.v2t)
    torch.set_float32_matmul_precision(
        "medium"
    )  # not every processor follows; a screen may not rely on its not doing so
    monkeypatch.setattr(screening._Tally, "_by_screen", None)
    found = ranks_of_cosines(cosines, own)
    assert found.t2v.equal(expected.t2v)
    assert found.v2t.equal(expected.v2t)


@pytest.mark.parametrize("size", [1, 1999, 2000, 2001])
def test_sizes_around_a_chunk(size: int) -> None:
    videos = noise(size, 4, seed=0)
    videos[-1] = videos[0]
    text = videos + 0.3 * noise(size, 4, seed=1)
    cosines = Cosines(text, one_segment(videos))
    own = torch.arange(size)
    ranks, expected = ranks_of_cosines(cosines, own), ranks_from_matrix(cosines.block(slice(0, size)), own)
    assert ranks.t2v.equal(expected.t2v)
    assert ranks.v2t.equal(expected.v2t)
