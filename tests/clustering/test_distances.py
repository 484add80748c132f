"""Distances against definitions written out, and the precision of matrix products."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from centerclip_pl.clustering.distances import full_float32_products, pairwise_distances
from centerclip_pl.errors import ConfigError


def slow_minkowski(x: list[float], y: list[float], p: float) -> float:
    gaps = [abs(a - b) for a, b in zip(x, y, strict=True)]
    return max(gaps) if p == math.inf else sum(gap**p for gap in gaps) ** (1 / p)


def slow_cosine(x: list[float], y: list[float]) -> float:
    return 1 - sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))


@pytest.mark.parametrize("count", [7, 40])  # torch measures in another way above 25
@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, math.inf])
def test_euclidean_is_minkowski(count: int, p: float) -> None:
    tokens = torch.randn(2, count, 5, generator=torch.Generator().manual_seed(0))
    expected = [[[slow_minkowski(x, y, p) for y in sample] for x in sample] for sample in tokens.tolist()]
    torch.testing.assert_close(pairwise_distances(tokens, "euclidean", p), torch.tensor(expected), atol=5e-3, rtol=1e-4)


def test_cosine() -> None:
    tokens = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    expected = [[[slow_cosine(x, y) for y in sample] for x in sample] for sample in tokens.tolist()]
    torch.testing.assert_close(pairwise_distances(tokens, "cosine"), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_cosine_with_a_token_of_zeros_is_one() -> None:
    tokens = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]])
    assert pairwise_distances(tokens, "cosine")[0, 0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("count", [20, 60, 147])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_identical_tokens_have_identical_rows(metric: str, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    which = torch.randint(0, count // 3, (count,), generator=generator)
    tokens = torch.randn(2, count // 3, 48, generator=generator)[:, which]
    first = torch.tensor([which.tolist().index(i) for i in which.tolist()])
    distances = pairwise_distances(tokens, metric)
    assert distances.equal(distances[:, first][:, :, first])


@pytest.mark.parametrize(
    ("metric", "p", "message"),
    [("manhattan", 1.0, "manhattan"), ("euclidean", 0.0, "p is 0"), ("cosine", math.nan, "p is nan")],
)
def test_options_that_do_not_exist(metric: str, p: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pairwise_distances(torch.zeros(1, 2, 2), metric, p)


@pytest.fixture
def restored_precision():
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.usefixtures("restored_precision")
def test_products_are_in_full_precision_inside_only(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    before = torch.backends.cuda.matmul.allow_tf32
    with full_float32_products():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == precision
    assert torch.backends.cuda.matmul.allow_tf32 == before


class _PrecisionOfProducts(TorchDispatchMode):
    """Records the precision at which matrix products are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in ("mm", "cdist", "euclidean")):
            self.seen.append(torch.get_float32_matmul_precision())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.usefixtures("restored_precision")
def test_distances_are_in_full_precision(metric: str) -> None:
    torch.set_float32_matmul_precision("medium")
    with _PrecisionOfProducts() as products:
        pairwise_distances(torch.randn(1, 40, 8), metric)
    assert set(products.seen) == {"highest"}


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch < 2.9 has one switch only")
@pytest.mark.usefixtures("restored_precision")
def test_products_are_in_full_precision_where_the_newer_switch_is_set() -> None:
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = "tf32"  # torch now refuses to read the older switch
    with full_float32_products():
        assert matmul.fp32_precision == "ieee"
    assert matmul.fp32_precision == "tf32"


@pytest.mark.parametrize("shape", [(2, 26, 5), (3, 147, 64), (1, 200, 1), (4, 33, 768), (0, 40, 8)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_euclidean_distances_are_those_of_cdist_to_the_last_bit(shape: tuple[int, int, int], scale: float) -> None:
    tokens = scale * (3 + torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(pairwise_distances(tokens), torch.cdist(tokens, tokens))
