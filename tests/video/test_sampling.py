from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.errors import ConfigError
from centerclip_pl.video.sampling import real_frames, segment_random_indices, uniform_indices

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "uniform_sampling.json").read_text())
frames = st.integers(1, 5000)
wanted = st.integers(1, 128)


@pytest.mark.parametrize("case", GOLDEN)
def test_uniform_agrees_with_published_implementation(case: str) -> None:
    clip_length, num_frames = map(int, case.split(","))
    assert uniform_indices(num_frames, clip_length) == GOLDEN[case]


@given(frames, wanted)
def test_uniform_is_the_middle_of_each_stretch(num_frames: int, clip_length: int) -> None:
    indices = uniform_indices(num_frames, clip_length)
    assert len(indices) == clip_length
    if num_frames > clip_length:
        for k, index in enumerate(indices):  # exact arithmetic; floats may only differ right at a boundary
            middle = Fraction(num_frames, clip_length) * (k + Fraction(1, 2))
            assert index <= middle + Fraction(1, 10**6)
            assert index + 1 > middle - Fraction(1, 10**6)
        assert len(set(indices)) == clip_length
    else:
        assert indices == [*range(num_frames), *[num_frames - 1] * (clip_length - num_frames)]


@given(frames, wanted, st.integers(0, 2**32))
def test_random_takes_one_of_each_stretch(num_frames: int, clip_length: int, seed: int) -> None:
    indices = segment_random_indices(num_frames, clip_length, np.random.default_rng(seed))
    width = num_frames // clip_length
    if width:
        assert [index // width for index in indices] == list(range(clip_length))
    else:
        assert indices == uniform_indices(num_frames, clip_length)
    assert max(indices) < num_frames
    assert all(type(index) is int for index in indices)


def test_random_reaches_every_frame_of_the_stretches() -> None:
    rng = np.random.default_rng(0)
    seen = {index for _ in range(300) for index in segment_random_indices(14, 3, rng)}
    assert seen == set(range(12))  # 14 // 3 = 4 frames a stretch; the last two are never taken


@given(frames, wanted)
def test_real_frames_counts_the_distinct_ones(num_frames: int, clip_length: int) -> None:
    real = real_frames(num_frames, clip_length)
    indices = uniform_indices(num_frames, clip_length)
    assert real == len(set(indices))
    assert indices[real:] == [indices[-1]] * (clip_length - real)


@pytest.mark.parametrize(("num_frames", "clip_length"), [(0, 12), (-1, 12), (5, 0)])
def test_impossible_numbers_are_refused(num_frames: int, clip_length: int) -> None:
    with pytest.raises(ConfigError, match=f"={min(num_frames, clip_length)}"):
        uniform_indices(num_frames, clip_length)
    with pytest.raises(ConfigError):
        real_frames(num_frames, clip_length)
