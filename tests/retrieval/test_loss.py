"""The symmetric cross entropy against its definition in plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval import symmetric_cross_entropy


def slow_loss(logits: list[list[float]]) -> float:
    n = len(logits)
    rows = [math.log(sum(math.exp(value) for value in row)) - row[i] for i, row in enumerate(logits)]
    columns = [math.log(sum(math.exp(logits[i][j]) for i in range(n))) - logits[j][j] for j in range(n)]
    return (sum(rows) / n + sum(columns) / n) / 2


@pytest.mark.parametrize("n", [1, 2, 7])
def test_is_its_definition(n: int) -> None:
    logits = 3 * torch.randn(n, n, generator=torch.Generator().manual_seed(n))
    assert symmetric_cross_entropy(logits).item() == pytest.approx(slow_loss(logits.tolist()), abs=1e-6)
    assert symmetric_cross_entropy(logits.T).item() == pytest.approx(symmetric_cross_entropy(logits).item(), abs=1e-6)


def test_half_precision_is_summed_in_float32() -> None:
    logits = 20 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    loss = symmetric_cross_entropy(logits)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_loss(logits.double().tolist()), rel=1e-5)


def test_gradient() -> None:
    logits = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(symmetric_cross_entropy, (logits,))


@pytest.mark.parametrize("shape", [(3, 4), (3,), (0, 0), (2, 3, 3)])
def test_only_square_matrices(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="not a square matrix"):
        symmetric_cross_entropy(torch.zeros(shape))
