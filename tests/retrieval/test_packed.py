"""Packed counts against plain sums, at the sizes at which eight sums side by side might run into each other."""

from __future__ import annotations

import pytest
import torch

from centerclip_pl.retrieval.packed import any_of_groups, count_columns, count_rows, padded


@pytest.mark.parametrize("rows", [1, 7, 254, 255, 256, 511, 800])
@pytest.mark.parametrize("columns", [8, 64, 255 * 8, 256 * 8, 520 * 8])
def test_counts_are_sums(rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(rows + columns)
    for mask in (torch.ones(rows, columns, dtype=torch.bool), torch.rand(rows, columns, generator=generator) < 0.5):
        assert count_rows(mask).equal(mask.sum(1))
        assert count_columns(mask).equal(mask.sum(0))


def test_widths_are_multiples_of_eight() -> None:
    assert [padded(columns) for columns in (1, 7, 8, 9, 2000)] == [8, 8, 8, 16, 2000]


@pytest.mark.parametrize("sizes", [[1], [5], [1, 1, 1], [3, 1, 2, 8, 1], [1, 17, 4], [64, 1, 63, 2]])
def test_any_of_groups(sizes: list[int]) -> None:
    rows = sum(sizes)
    for share in (0.0, 0.02, 0.3, 1.0):
        mask = torch.rand(rows, 24, generator=torch.Generator().manual_seed(rows)) < share
        given = mask.clone()
        first = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
        expected = torch.stack([part.any(0) for part in mask.split(sizes)])
        assert any_of_groups(mask, first).equal(expected)
        assert mask.equal(given)
