"""Random draws that follow from the step and the place in the global batch."""

from __future__ import annotations

import torch

from centerclip_pl import draws
from centerclip_pl.draws import PAIRS, TOKENS, Rows, drawing_for, uniform
from centerclip_pl.retrieval.heads.tight import TightTransformer
from centerclip_pl.tokens import SparseSampling
from centerclip_pl.types import VideoEmbedding


def test_what_is_drawn_for_one_row_is_not_drawn_again_for_something_else() -> None:
    seeds: list[int] = []
    mixed = draws.mixed_seed

    def noted(*parts: int) -> int:
        seeds.append(mixed(*parts))
        return seeds[-1]

    tight = TightTransformer(8, layers=1, heads=2, positions=4, pairs_at_a_time=2).train()
    video = VideoEmbedding(torch.randn(4, 2, 8), torch.ones(4, 2, dtype=torch.bool))
    draws.mixed_seed = noted
    try:
        with drawing_for(Rows((0, 0, 0))):
            for block in (0, 1, 2):
                SparseSampling(block, 2, 3).train().select(torch.zeros(8, 12, 4), 1)
            tight(torch.randn(4, 8), video, torch.tensor(0.0))
    finally:
        draws.mixed_seed = mixed
    assert len(seeds) == 3 * 4 + 2 * 4
    assert len(set(seeds)) == len(seeds)


def test_a_part_has_numbers_of_its_own() -> None:
    with drawing_for(Rows((0, 0, 0), 5)):
        drawn = [uniform(1, (8,), "cpu", part=part) for part in ((TOKENS, 0), (TOKENS, 1), (PAIRS, 0), (PAIRS, 1))]
        assert torch.equal(uniform(1, (8,), "cpu", part=(TOKENS, 0)), drawn[0])
    assert len(torch.cat(drawn).unique()) == 32
