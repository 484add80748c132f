from __future__ import annotations

import json
from fractions import Fraction
from itertools import count, takewhile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from centerclip_pl.errors import ConfigError
from centerclip_pl.video.sampling import (
    frames_at,
    head_indices,
    real_frames,
    reorder,
    segment_random_indices,
    tail_indices,
    uniform_indices,
)

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


@given(frames, wanted)
def test_head_and_tail_are_the_first_and_the_last(num_frames: int, clip_length: int) -> None:
    head, tail = head_indices(num_frames, clip_length), tail_indices(num_frames, clip_length)
    if num_frames <= clip_length:
        assert head == tail == uniform_indices(num_frames, clip_length)
    else:
        assert head == [*range(num_frames)][:clip_length]
        assert tail == [*range(num_frames)][-clip_length:]


@given(st.lists(st.integers(0, 100)), st.integers(0, 2**32))
def test_orders(indices: list[int], seed: int) -> None:
    assert reorder(indices, "forward") == indices
    assert reorder(reorder(indices, "reverse"), "reverse") == indices
    assert reorder(indices, "reverse")[:1] == indices[-1:]
    shuffled = reorder(indices, "shuffle", np.random.default_rng(seed))
    assert sorted(shuffled) == sorted(indices)
    assert shuffled == reorder(indices, "shuffle", np.random.default_rng(seed))


def test_shuffling_reaches_every_order() -> None:
    rng = np.random.default_rng(0)
    assert len({tuple(reorder([1, 2, 3], "shuffle", rng)) for _ in range(200)}) == 6


def test_unknown_orders_are_refused() -> None:
    with pytest.raises(ConfigError, match="frame_order=2"):
        reorder([1], "2")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="randomness"):
        reorder([1], "shuffle")


def spans(starts: list[float], end: float) -> np.ndarray:
    return np.array([*zip(starts, [*starts[1:], end], strict=True)])


def shown_at(edges: np.ndarray, millisecond: Fraction) -> int:
    """The frame on the screen at a time, one by one, in exact arithmetic."""
    return max(index for index, begin in enumerate(edges[:-1].tolist()) if begin <= millisecond + 1)


milliseconds = st.lists(st.integers(1, 400), min_size=1, max_size=60)


@example([1] * 9 + [307, 400, 400, 400, 1], 25, 235, None)  # exactly a millisecond before a frame begins
@given(milliseconds, st.integers(1, 70), st.none() | st.integers(0, 3000), st.none() | st.integers(0, 9000))
def test_frames_at_takes_what_is_shown_at_each_time(
    lengths: list[int], fps: int, start: int | None, end: int | None
) -> None:
    edges = np.cumsum([0, *lengths])
    table = np.stack([edges[:-1], edges[1:]], axis=1) / 1000
    found = frames_at(table, fps, None if start is None else start / 1000, None if end is None else end / 1000)
    begin = Fraction(start or 0)
    stop = edges[-1] if end is None else min(end, edges[-1])
    times = takewhile(lambda millisecond: millisecond < stop, (begin + Fraction(1000 * k, fps) for k in count()))
    assert found.tolist() == sorted({shown_at(edges, millisecond) for millisecond in times})


@given(st.sampled_from([3, 10, 12, 23.976, 24, 25, 29.97, 30, 50, 59.94]), st.integers(1, 400))
def test_the_videos_own_rate_and_more_give_every_frame(rate: float, number: int) -> None:
    exact = [k / rate for k in range(number)]
    in_milliseconds = [round(second, 3) for second in exact]  # as Matroska stores them
    for starts, rates in ((exact, (rate, 1.01 * rate, 1000.0)), (in_milliseconds, (rate, 1.1 * rate, 1000.0))):
        for fps in rates:
            assert frames_at(spans(starts, number / rate), fps).tolist() == list(range(number))


def test_one_frame_a_second_of_a_film() -> None:
    assert frames_at(spans([k / 25 for k in range(500)], 20.0), 1).tolist() == [25 * k for k in range(20)]
    assert frames_at(spans([0.0], 0.04), 1).tolist() == [0]
    assert frames_at(spans([0.0, 1.0], 2.0), 1, start=5).tolist() == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_impossible_rates_are_refused(fps: float) -> None:
    with pytest.raises(ConfigError, match="fps="):
        frames_at(spans([0.0], 1.0), fps)
