"""Sampling, pooling and shifts against their definitions written as loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from centerclip_pl.tokens import SegmentPooling, SparseSampling, TemporalShift, TokenShift
from centerclip_pl.tokens.shifts import shift_channels

# The choices of the published CenterCLIP for 49 of 147 and (first and last ten) 160 of 784 tokens.
PUBLISHED_49_OF_147 = list(range(1, 147, 3))
PUBLISHED_160_OF_784 = [2, 7, 12, 17, 22, 26, 31, 36, 41, 46], [737, 742, 747, 752, 757, 761, 766, 771, 776, 781]


def tokens_of(rows: int, length: int, channels: int) -> Tensor:
    return torch.randn(rows, length, channels, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("count", "kept"), [(147, 49), (784, 160), (196, 49), (10, 3), (7, 7), (5, 1)])
def test_sampling_takes_the_centres_of_bins(count: int, kept: int) -> None:
    found = SparseSampling(0, 1, kept).eval().select(torch.zeros(2, count, 1), 1)
    tick = count / kept
    expected = [math.floor(tick / 2 + tick * k) for k in range(kept)]
    assert found.tolist() == [expected, expected]


def test_sampling_is_the_published_one() -> None:
    def choose(count: int, kept: int) -> list[int]:
        return SparseSampling(0, 1, kept).eval().select(torch.zeros(1, count, 1), 1)[0].tolist()

    assert choose(147, 49) == PUBLISHED_49_OF_147
    assert choose(784, 160)[:10] == PUBLISHED_160_OF_784[0]
    assert choose(784, 160)[-10:] == PUBLISHED_160_OF_784[1]


@pytest.mark.parametrize(("count", "kept"), [(147, 49), (100, 7), (10, 10), (11, 2)])
def test_training_samples_within_the_bins(count: int, kept: int) -> None:
    sampling = SparseSampling(0, 1, kept).train()
    torch.manual_seed(0)
    found = sampling.select(torch.zeros(500, count, 1), 1)
    tick = count / kept
    for k in range(kept):
        bin_of = range(math.floor(tick * k + 1e-9), math.floor(tick * (k + 1) + 1e-9))
        drawn = set(found[:, k].tolist())
        assert drawn <= set(bin_of)
        assert len(drawn) == len(bin_of)  # 500 draws leave none of a few out
    torch.manual_seed(0)
    assert torch.equal(sampling.select(torch.zeros(500, count, 1), 1), found)


def test_pooling_is_the_mean_over_frames() -> None:
    tokens = tokens_of(2 * 6, 5, 3)
    found = SegmentPooling(0, 2)(tokens, 6)
    for video in range(2):
        for segment in range(2):
            frames = [tokens[video * 6 + segment * 3 + k] for k in range(3)]
            torch.testing.assert_close(found[video * 2 + segment], sum(frames) / 3)


def slow_shift(tokens: Tensor, frames: int) -> Tensor:
    found, fold = tokens.clone(), tokens.shape[-1] // 8
    for row in range(len(tokens)):
        frame = row % frames
        for channel in range(2 * fold):
            neighbour = row + 1 if channel < fold else row - 1
            there = frame + 1 < frames if channel < fold else frame > 0
            found[row, :, channel] = tokens[neighbour, :, channel] if there else 0.0
    return found


@pytest.mark.parametrize("channels", [8, 16, 20, 7])
@pytest.mark.parametrize("frames", [2, 3, 6])
def test_shifts(channels: int, frames: int) -> None:
    tokens = tokens_of(2 * frames, 5, channels)
    expected = slow_shift(tokens, frames)
    assert torch.equal(shift_channels(tokens, frames), expected)
    patches, classes = TemporalShift()(tokens, frames), TokenShift()(tokens, frames)
    assert torch.equal(patches, torch.cat([tokens[:, :1], expected[:, 1:]], dim=1))
    assert torch.equal(classes, torch.cat([expected[:, :1], tokens[:, 1:]], dim=1))
