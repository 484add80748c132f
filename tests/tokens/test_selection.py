"""Sparse sampling as the published implementation has it, and its bins; see also test_methods.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import SparseSampling

GOLDEN = Path(__file__).parents[1] / "golden" / "tokens_sampling.json"


def select(count: int, kept: int, *, training: bool = False, groups: int = 1) -> Tensor:
    return SparseSampling(0, 1, kept).train(training).select(torch.zeros(groups, count, 1), 1)


def test_sampling_is_the_published_one() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 2
    for name, expected in golden.items():
        kept, count = map(int, name.split(" of "))
        assert select(count, kept, groups=2).tolist() == [expected, expected]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 400), share=st.floats(0, 1), seed=st.integers(0, 2**16))
def test_one_token_of_each_bin(count: int, share: float, seed: int) -> None:
    kept = 1 + int(share * (count - 1))
    bins = [range(count * k // kept, count * (k + 1) // kept) for k in range(kept)]
    assert sorted(i for each in bins for i in each) == list(range(count))
    tick = count / kept
    centres = select(count, kept)[0]
    assert centres.tolist() == [int(tick / 2 + tick * k) for k in range(kept)]
    assert (centres.diff() > 0).all()
    torch.manual_seed(seed)
    drawn = select(count, kept, training=True, groups=3)
    for row in drawn.tolist():
        assert all(i in each for i, each in zip(row, bins, strict=True))


@pytest.mark.parametrize(("count", "kept"), [(30, 22), (30, 26), (45, 33), (1568, 192)])
def test_bins_share_no_token(count: int, kept: int) -> None:
    # Where an edge is a whole number that count / kept * k, as floating point numbers, just misses.
    assert any(int(count / kept * k) != count * k // kept for k in range(kept))
    torch.manual_seed(0)
    assert (select(count, kept, training=True, groups=500).diff(dim=1) > 0).all()


def test_draws_are_even_and_follow_the_seed() -> None:
    torch.manual_seed(3)
    drawn = select(12, 4, training=True, groups=6000)
    for k in range(4):
        shares = torch.bincount(drawn[:, k], minlength=12)[3 * k : 3 * k + 3] / 6000
        assert (shares - 1 / 3).abs().max() < 0.03
    torch.manual_seed(3)
    assert torch.equal(select(12, 4, training=True, groups=6000), drawn)
    assert not torch.equal(select(12, 4, training=True, groups=6000), drawn)
    assert len({tuple(row) for row in drawn.tolist()}) == 3**4  # each segment draws for itself


def test_more_tokens_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"clusters is 5.*only 4 tokens"):
        SparseSampling(0, 1, 5).shape_out(1, 4)
