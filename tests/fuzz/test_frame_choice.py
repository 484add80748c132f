"""The choice of frames, with numbers of any size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fuzzing import FUNCTIONS, tried
from hypothesis import given
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

RULES = {
    "uniform": uniform_indices,
    "random": lambda frames, wanted: segment_random_indices(frames, wanted, np.random.default_rng(abs(frames))),
    "head": head_indices,
    "tail": tail_indices,
}


@pytest.mark.parametrize("rule", RULES)
@FUNCTIONS
@given(st.integers(1, 10**15) | st.integers(1, 80), st.integers(1, 64))
def test_every_rule_gives_frames_of_the_video_in_order(rule: str, frames: int, wanted: int) -> None:
    tried()
    indices = RULES[rule](frames, wanted)
    assert len(indices) == wanted
    assert all(type(index) is int for index in indices)
    assert indices == sorted(indices)
    assert 0 <= indices[0] <= indices[-1] < frames
    real = real_frames(frames, wanted)
    assert len(set(indices)) == real  # the rest repeats the last one
    assert reorder(indices[:real], "reverse") == indices[:real][::-1]


@pytest.mark.parametrize("rule", [*RULES, "real_frames"])
@FUNCTIONS
@given(st.integers(-(10**9), 0), st.integers(1, 20), st.booleans())
def test_videos_without_frames_and_clips_without_length_are_refused(
    rule: str, bad: int, good: int, first: bool
) -> None:
    frames, wanted = (bad, good) if first else (good, bad)
    tried("bad")
    with pytest.raises(ConfigError, match=f"={bad}: "):
        (RULES | {"real_frames": real_frames})[rule](frames, wanted)


@FUNCTIONS
@given(st.text(max_size=9).filter(lambda text: text not in ("forward", "reverse", "shuffle")))
def test_orders_that_do_not_exist_are_refused(order: str) -> None:
    tried("bad")
    with pytest.raises(ConfigError, match="frame_order="):
        reorder([1, 2], order, np.random.default_rng(0))


lengths = st.lists(st.integers(1, 5000), min_size=1, max_size=40)


def spans_of(milliseconds: list[int]) -> np.ndarray:
    edges = np.cumsum([0, *milliseconds])
    return np.stack([edges[:-1], edges[1:]], axis=1) / 1000


@FUNCTIONS
@given(lengths, st.floats(1e-320, 1.7e308), st.none() | st.floats(-10, 300), st.none() | st.floats(-10, 300))
def test_any_rate_and_any_times_give_ascending_frames_of_the_video(
    milliseconds: list[int], fps: float, start: float | None, end: float | None
) -> None:
    spans = spans_of(milliseconds)
    tried()
    with np.errstate(over="ignore"):
        found = frames_at(spans, fps, start, end)
    assert found.dtype == np.int64
    assert found.tolist() == sorted(set(found.tolist()))
    assert all(0 <= index < len(spans) for index in found)
    last = spans[-1, 1] if end is None else min(end, spans[-1, 1])
    if max(0.0, start or 0.0) >= last:
        assert len(found) == 0
    elif fps >= 1e4 and start is None and end is None:
        assert found.tolist() == list(range(len(spans)))  # above the video's own rate: every frame


@FUNCTIONS
@given(lengths, st.sampled_from([0.0, -0.0, -1.0, math.nan, math.inf, -math.inf]) | st.floats(max_value=0))
def test_rates_that_are_none_are_refused(milliseconds: list[int], fps: float) -> None:
    tried("bad")
    with pytest.raises(ConfigError, match="fps="):
        frames_at(spans_of(milliseconds), fps)
