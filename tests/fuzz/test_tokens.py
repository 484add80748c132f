"""Segments and reducers over random numbers of videos, frames, patches and channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fuzzing import FUNCTIONS, tried
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import (
    KMedoids,
    Reducer,
    SegmentPooling,
    SparseSampling,
    Spectral,
    TemporalShift,
    TokenSelection,
    TokenShift,
    check_plan,
)
from centerclip_pl.tokens.segments import (
    frames_per_segment,
    mean_of_clusters,
    segment_mask,
    split_segments,
    take_tokens,
)

SEEDS = st.integers(0, 2**31)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MAKE: dict[str, Callable[[int, int], Reducer]] = {
    "kmedoids": lambda segments, clusters: KMedoids(0, segments, clusters),
    "kmedoids mean": lambda segments, clusters: KMedoids(0, segments, clusters, aggregation="mean"),
    "spectral": lambda segments, clusters: Spectral(0, segments, clusters),
    "spectral knn": lambda segments, clusters: Spectral(0, segments, clusters, graph="knn", aggregation="mean"),
    "sparse": lambda segments, clusters: SparseSampling(0, segments, clusters),
    "pooling": lambda segments, clusters: SegmentPooling(0, segments),
    "temporal": lambda segments, clusters: TemporalShift(),
    "token": lambda segments, clusters: TokenShift(),
}


@pytest.mark.parametrize("name", MAKE)
@FUNCTIONS
@given(
    seed=SEEDS,
    videos=st.integers(1, 3),
    segments=st.integers(1, 4),
    each=st.integers(1, 3),
    patches=st.integers(1, 12),
    share=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_every_reducer_gives_the_shape_that_it_promises_and_knows_one_video_at_a_time(
    name: str, seed: int, videos: int, segments: int, each: int, patches: int, share: float, dtype: torch.dtype
) -> None:
    frames, channels = segments * each, 8
    clusters = 1 + int(share * (each * patches - 1))
    reducer = MAKE[name](segments, clusters).eval()
    given_tokens = (2 * noise(seed, videos * frames, 1 + patches, channels)).round().to(dtype)
    if frames == 1 and isinstance(reducer, TemporalShift | TokenShift):
        tried("bad")
        with pytest.raises(ConfigError, match="only one frame"):
            check_plan([reducer], frames, patches, 3)
        return
    tried()
    out_segments, out_patches = check_plan([reducer], frames, patches, 3)
    found = reducer(given_tokens, frames)
    assert found.shape == (videos * out_segments, 1 + out_patches, channels)
    assert found.dtype == dtype
    assert bool(torch.isfinite(found).all())
    for video in range(videos):
        alone = reducer(given_tokens[video * frames : (video + 1) * frames], frames)
        torch.testing.assert_close(found[video * out_segments : (video + 1) * out_segments], alone)
    if isinstance(reducer, TokenSelection) and getattr(reducer, "aggregation", "medoid") == "medoid":
        # What is kept are tokens of their own segment, in their order.
        _, mine = split_segments(given_tokens, each)
        kept = reducer.select(mine, each)
        assert bool((kept.diff(dim=1) > 0).all())
        assert torch.equal(found[:, 1:], take_tokens(mine, kept))


@FUNCTIONS
@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5), st.integers(1, 4))
def test_segments_are_what_a_loop_makes_of_them(
    seed: int, videos: int, segments: int, each: int, patches: int, channels: int
) -> None:
    frames = segments * each
    made = noise(seed, videos * frames, 1 + patches, channels)
    tried()
    cls, tokens = split_segments(made, frames_per_segment(frames, segments))
    for video in range(videos):
        for segment in range(segments):
            rows = [made[video * frames + segment * each + k] for k in range(each)]
            row = video * segments + segment
            torch.testing.assert_close(cls[row, 0], torch.stack([r[0] for r in rows]).mean(0))
            assert torch.equal(tokens[row], torch.cat([r[1:] for r in rows]))


@FUNCTIONS
@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_masks_are_what_a_loop_makes_of_them(data: Any, videos: int, segments: int, each: int) -> None:
    length = segments * each
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=videos))
    tried()
    whole = [[row[s * each : (s + 1) * each] for s in range(segments)] for row in rows]
    for mask in (torch.tensor(rows), torch.tensor(rows).int()):
        assert segment_mask(mask, segments).tolist() == [[any(part) for part in row] for row in whole]
        assert segment_mask(mask, segments, "last").tolist() == [[part[-1] for part in row] for row in whole]


@FUNCTIONS
@given(st.integers(-3, 40), st.integers(-3, 40))
def test_frames_are_divided_without_a_rest_or_refused(frames: int, segments: int) -> None:
    right = frames >= 1 and segments >= 1 and frames % segments == 0
    tried("good" if right else "bad")
    if right:
        assert frames_per_segment(frames, segments) * segments == frames
        return
    with pytest.raises(ConfigError, match=f"{frames}.*{segments}"):
        frames_per_segment(frames, segments)


@FUNCTIONS
@given(SEEDS, st.integers(1, 3), st.integers(1, 30), st.integers(1, 4), st.floats(0, 1))
def test_means_of_clusters_are_those_of_a_loop(seed: int, groups: int, count: int, channels: int, share: float) -> None:
    clusters = 1 + int(share * (count - 1))
    patches = noise(seed, groups, count, channels)
    random = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(count, generator=random) for _ in range(groups)])
    assignments = order % clusters  # every cluster has a member
    tried()
    found = mean_of_clusters(patches, assignments, clusters)
    for group in range(groups):
        for k in range(clusters):
            torch.testing.assert_close(found[group, k], patches[group][assignments[group] == k].mean(0))


@FUNCTIONS
@given(
    st.sampled_from([KMedoids, Spectral, SparseSampling]), st.integers(-3, 9), st.integers(-3, 9), st.integers(-3, 40)
)
def test_plans_that_cannot_work_are_refused_before_anything_runs(
    kind: Any, after_block: int, segments: int, clusters: int
) -> None:
    """A vision transformer of 4 blocks, 6 frames with 5 patches each."""
    right = 0 <= after_block < 4 and segments in (1, 2, 3, 6) and 1 <= clusters <= 30 // max(segments, 1)
    tried("good" if right else "bad")
    if right:
        assert check_plan([kind(after_block, segments, clusters)], 6, 5, 4) == (segments, clusters)
        return
    with pytest.raises(ConfigError):
        check_plan([kind(after_block, segments, clusters)], 6, 5, 4)
