import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.segments import (
    frames_per_segment,
    mean_of_clusters,
    segment_mask,
    split_segments,
    take_tokens,
)


def test_split_segments_groups_consecutive_frames_of_one_video() -> None:
    videos, frames, patches, channels, each = 2, 6, 5, 3, 2
    tokens = torch.randn(videos * frames, 1 + patches, channels)
    cls, grouped = split_segments(tokens, each)
    assert cls.shape == (videos * 3, 1, channels)
    assert grouped.shape == (videos * 3, each * patches, channels)
    by_video = tokens.view(videos, frames, 1 + patches, channels)
    for v in range(videos):
        for s in range(3):
            members = by_video[v, s * each : (s + 1) * each]
            torch.testing.assert_close(cls[v * 3 + s, 0], members[:, 0].mean(dim=0))
            expected = torch.cat([members[d, 1:] for d in range(each)])
            assert torch.equal(grouped[v * 3 + s], expected)


@pytest.mark.parametrize(("frames", "segments"), [(12, 5), (3, 6), (0, 1), (4, 0)])
def test_frames_that_do_not_divide_are_refused(frames: int, segments: int) -> None:
    with pytest.raises(ConfigError, match=str(frames)):
        frames_per_segment(frames, segments)


def test_the_error_names_the_divisors() -> None:
    with pytest.raises(ConfigError, match="1, 2, 3, 4, 6, 12"):
        frames_per_segment(12, 5)


def test_segment_mask_rules() -> None:
    frames = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    assert segment_mask(frames, 3, "any").tolist() == [[True] * 3, [True, True, False], [True, False, False]]
    assert segment_mask(frames, 3, "last").tolist() == [[True] * 3, [True, False, False], [False, False, False]]
    with pytest.raises(ConfigError, match="first"):
        segment_mask(frames, 3, "first")


def test_take_tokens_has_gradient_for_what_it_takes_alone() -> None:
    patches = torch.randn(2, 6, 4, requires_grad=True)
    indices = torch.tensor([[0, 3], [2, 5]])
    taken = take_tokens(patches, indices)
    assert torch.equal(taken[1], patches[1, [2, 5]])
    taken.sum().backward()
    assert patches.grad is not None
    expected = torch.zeros(2, 6, 4)
    expected[0, [0, 3]] = 1
    expected[1, [2, 5]] = 1
    assert torch.equal(patches.grad, expected)


def test_mean_of_clusters_against_a_loop() -> None:
    patches = torch.randn(3, 10, 4, dtype=torch.float64)
    assignments = torch.stack([torch.arange(10) % 3, torch.arange(10) // 4, torch.tensor([0, 1, 2] + [1] * 7)])
    means = mean_of_clusters(patches, assignments, 3)
    for g in range(3):
        for k in range(3):
            torch.testing.assert_close(means[g, k], patches[g][assignments[g] == k].mean(dim=0))


class _DtypesOfSums(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scatter_add" in str(func):
            self.seen.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_means_of_large_clusters_in_16_bits(dtype: torch.dtype) -> None:
    # Added up one by one in bfloat16, as a GPU may do it, 588 members would be counted as 256.
    patches = (100 + torch.randn(2, 588, 4, generator=torch.Generator().manual_seed(0))).to(dtype)
    assignments = torch.arange(588).eq(7).long().expand(2, -1)
    with _DtypesOfSums() as sums:
        means = mean_of_clusters(patches, assignments, 2)
    assert sums.seen == {torch.float32}
    assert means.dtype == dtype
    expected = torch.stack([patches[:, assignments[0] == k].double().mean(dim=1) for k in range(2)], dim=1)
    assert torch.equal(means, expected.float().to(dtype))
