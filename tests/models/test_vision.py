from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.models import VideoTower
from centerclip_pl.tokens import KMedoids, Reducer, encoder_blocks

# Of OpenAI's CLIP: the means and standard deviations of red, green and blue that its pictures are normalised with.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


def raw(videos: int = 2, frames: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (videos, frames, 3, 32, 32), generator=generator, dtype=torch.uint8)


def normalised(frames: Tensor) -> Tensor:
    """By hand, channels last, in double precision."""
    pictures = frames.numpy().transpose(0, 1, 3, 4, 2) / 255.0
    return torch.from_numpy(((pictures - MEAN) / STD).transpose(0, 1, 4, 2, 3)).float()


def tower(clip: CLIPModel, *reducers: Reducer, num_frames: int = 6, rule: str = "any") -> VideoTower:
    return VideoTower(clip.vision_model, clip.visual_projection, reducers, num_frames, rule)


@torch.no_grad()
def test_without_reducers_a_segment_is_a_frame(clip: CLIPModel) -> None:
    frames = normalised(raw())
    expected = clip.get_image_features(pixel_values=frames.flatten(0, 1)).pooler_output
    segments, mask = tower(clip)(frames)
    assert segments.shape == (2, 6, 24)
    torch.testing.assert_close(segments.flatten(0, 1), expected, atol=1e-6, rtol=1e-5)
    assert mask.dtype == torch.bool
    assert mask.shape == (2, 6)
    assert mask.all()


# Both members of a cluster of two are equally good medoids, up to rounding, and where a segment has more than 25 tokens
# rounding decides (see `pairwise_distances`). So what is compared here between different ways of computing has fewer.
@torch.no_grad()
@pytest.mark.parametrize("reducers", [(), (KMedoids(2, 6, 7),)])
def test_uint8_frames_are_normalised(clip: CLIPModel, reducers: tuple[Reducer, ...]) -> None:
    video = tower(clip, *reducers)
    torch.testing.assert_close(video(raw()).segments, video(normalised(raw())).segments, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_each_video_by_itself(clip: CLIPModel) -> None:
    video = tower(clip, KMedoids(1, 6, 9), KMedoids(3, 3, 4))
    together = video(raw(3)).segments
    assert together.shape == (3, 3, 24)
    alone = torch.cat([video(raw(3)[k : k + 1]).segments for k in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[1])


@torch.no_grad()
@pytest.mark.parametrize(("rule", "expected"), [("any", [[1, 1, 1], [1, 1, 0]]), ("last", [[1, 1, 1], [1, 0, 0]])])
def test_mask_rules(clip: CLIPModel, rule: str, expected: list[list[int]]) -> None:
    frame_mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    for mask in (frame_mask, frame_mask.bool()):
        found = tower(clip, KMedoids(2, 3, 7), rule=rule)(raw(), mask).mask
        assert found.dtype == torch.bool
        assert found.int().tolist() == expected
    assert torch.equal(tower(clip, rule=rule)(raw(), frame_mask).mask, frame_mask.bool())


@torch.no_grad()
def test_another_number_of_frames(clip: CLIPModel) -> None:
    video = tower(clip, KMedoids(2, 3, 7))
    first = video(raw()).segments
    with pytest.raises(ConfigError, match="7 frames cannot be divided into 3"):
        video(raw(frames=7))
    assert torch.equal(video(raw()).segments, first)  # a refusal leaves things as they were
    twelve = video(raw(frames=12)).segments
    assert twelve.shape == (2, 3, 24)
    assert torch.equal(video(raw()).segments, first)
    assert torch.equal(tower(clip, KMedoids(2, 3, 7), num_frames=12)(raw(frames=12)).segments, twelve)
    with pytest.raises(ConfigError, match=r"clusters is 33.*only 32 tokens"):
        tower(clip, KMedoids(2, 3, 33), num_frames=12)(raw())  # 64 tokens at 12 frames, 32 at 6


@torch.no_grad()
def test_a_deep_copy_is_independent(clip: CLIPModel) -> None:
    video = tower(clip, KMedoids(2, 3, 7))
    expected, twelve = video(raw()).segments, video(raw(frames=12)).segments
    video(raw())
    other = copy.deepcopy(video)
    assert torch.equal(other(raw()).segments, expected)
    assert torch.equal(other(raw(frames=12)).segments, twelve)
    assert [len(block._forward_pre_hooks) for block in encoder_blocks(other.vision)] == [0, 0, 1, 0]
    reducer = other.reducers[0]
    assert isinstance(reducer, KMedoids)
    reducer.clusters = 1  # its own reducer is at work
    assert not torch.allclose(other(raw()).segments, expected)
    assert torch.equal(video(raw()).segments, expected)


def test_gradients_reach_every_parameter(clip: CLIPModel) -> None:
    video = tower(clip, KMedoids(2, 3, 7))
    video(raw()).segments.square().sum().backward()
    for name, parameter in video.named_parameters():
        assert parameter.grad is not None, name
        # A shift of all keys of a query by the same amount does not change its attention.
        assert parameter.grad.abs().sum() > 0 or "k_proj.bias" in name, name


def test_sizes_that_it_tells(clip: CLIPModel) -> None:
    assert tower(clip).image_size == 32
    assert tower(clip).grid == 4


@pytest.mark.parametrize("shape", [(6, 3, 32, 32), (2, 6, 1, 32, 32), (2, 6, 3, 32, 24), (2, 6, 3, 64, 64)])
def test_frames_of_another_shape_are_refused(clip: CLIPModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"must be \[B, T, 3, 32, 32\]") as caught:
        tower(clip)(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 5), (3, 6), (12,)])
def test_a_mask_of_another_shape_is_refused(clip: CLIPModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"must be \[2, 6\]"):
        tower(clip)(raw(), torch.ones(shape))


@pytest.mark.parametrize(
    ("reducers", "rule", "says"),
    [
        ([KMedoids(2, 4, 7)], "any", "6 frames cannot be divided into 4"),
        ([KMedoids(4, 3, 7)], "any", "after_block is 4.*4 blocks"),
        ([KMedoids(2, 3, 33)], "any", "clusters is 33"),
        ([], "first", "segment_mask is 'first'.*any, last"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(clip: CLIPModel, reducers: list[Reducer], rule: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tower(clip, *reducers, rule=rule)
