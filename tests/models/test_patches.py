"""3D patches against a loop of 2D convolutions over neighbouring frames."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.models import VideoTower
from centerclip_pl.models.patches import TemporalPatchEmbedding, use_temporal_patches
from centerclip_pl.tokens import KMedoids


def pictures(videos: int = 2, frames: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(videos * frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def random_patches(frames: int = 4) -> TemporalPatchEmbedding:
    torch.manual_seed(0)
    patches = TemporalPatchEmbedding(3, 16, 8)
    patches.frames = frames
    return patches


def slow_patches(weight: Tensor, pixels: Tensor, frames: int) -> Tensor:
    """Of each frame: its own 2D convolution, and its neighbours' where it has some, by other kernels."""
    found = []
    for row in range(len(pixels)):
        frame = row % frames
        total = torch.zeros(16, 4, 4)
        for step in (-1, 0, 1):
            if 0 <= frame + step < frames:
                total = total + F.conv2d(pixels[row + step][None], weight[:, :, 1 + step], stride=8)[0]
        found.append(total)
    return torch.stack(found)


@torch.no_grad()
@pytest.mark.parametrize(("videos", "frames"), [(1, 1), (3, 1), (2, 2), (2, 5)])
def test_a_patch_sees_three_frames(videos: int, frames: int) -> None:
    patches, pixels = random_patches(frames), pictures(videos, frames)
    found = patches(pixels)
    assert found.shape == (videos * frames, 16, 4, 4)
    torch.testing.assert_close(found, slow_patches(patches.weight, pixels, frames))


def test_gradients_stay_within_the_video_and_its_next_frames() -> None:
    patches, pixels = random_patches(4), pictures().requires_grad_()
    for row in range(8):
        (gradient,) = torch.autograd.grad(patches(pixels)[row].sum(), pixels)
        reached = gradient.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        assert reached == [k for k in range(8) if abs(k - row) <= 1 and k // 4 == row // 4]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inflated_patches_start_as_the_flat_ones(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    flat = nn.Conv2d(3, 16, 8, stride=8, bias=False).to(dtype)
    patches = TemporalPatchEmbedding.inflate(flat)
    patches.frames = 4
    assert patches.weight.shape == (16, 3, 3, 8, 8)  # out, in, time, rows, columns
    assert patches.weight.dtype == dtype
    assert patches.weight.requires_grad
    assert patches.bias is None
    assert torch.equal(patches.weight[:, :, 1], flat.weight)
    assert not patches.weight[:, :, [0, 2]].any()
    torch.testing.assert_close(patches(pictures().to(dtype)), flat(pictures().to(dtype)))
    patches.weight += 1  # its own: the flat ones stay
    assert not torch.equal(patches.weight[:, :, 1], flat.weight)


def test_the_patches_of_a_transformer_are_replaced(clip: CLIPModel) -> None:
    vision = clip.vision_model
    made = use_temporal_patches(vision)
    assert vision.embeddings.patch_embedding is made
    assert [name for name in vision.state_dict() if "patch_embedding" in name] == ["embeddings.patch_embedding.weight"]
    with pytest.raises(ConfigError, match="no 2D patch_embedding"):
        use_temporal_patches(vision)  # they are 3D by now
    with pytest.raises(ConfigError, match="Linear has no 2D patch_embedding"):
        use_temporal_patches(nn.Linear(2, 2))


def tower(clip: CLIPModel, patch: str, *reducers: KMedoids, frames: int = 4) -> VideoTower:
    vision, projection = copy.deepcopy((clip.vision_model, clip.visual_projection))
    return VideoTower(vision, projection, reducers, frames, patch=patch)


def raw(videos: int = 2, frames: int = 4) -> Tensor:
    return pictures(videos, frames).unflatten(0, (videos, frames))


@torch.no_grad()
@pytest.mark.parametrize("reducers", [(), (KMedoids(2, 4, 7),)])
def test_a_tower_starts_as_one_of_2d_patches(clip: CLIPModel, reducers: tuple[KMedoids, ...]) -> None:
    flat, deep = tower(clip, "2d", *reducers), tower(clip, "3d", *reducers)
    torch.testing.assert_close(deep(raw()).segments, flat(raw()).segments)


def train_a_little(video: VideoTower) -> TemporalPatchEmbedding:
    """Side kernels that are no longer zero."""
    patches = video.vision.embeddings.patch_embedding
    assert isinstance(patches, TemporalPatchEmbedding)
    with torch.no_grad():
        patches.weight += torch.randn(patches.weight.shape, generator=torch.Generator().manual_seed(5)) / 10
    return patches


@torch.no_grad()
def test_a_tower_knows_where_videos_begin(clip: CLIPModel) -> None:
    video = tower(clip, "3d")
    patches = train_a_little(video)
    for frames in (4, 2, 6, 4):  # from one call to the next
        together = video(raw(3, frames)).segments
        assert patches.frames == frames
        for k in range(3):
            torch.testing.assert_close(video(raw(3, frames)[k : k + 1]).segments[0], together[k])
    longer = raw(1, 4)
    assert not torch.allclose(video(longer[:, :2]).segments[0, 1], video(longer).segments[0, 1])  # what follows counts
    torch.testing.assert_close(video(longer[:, :2]).segments[0, 0], video(longer).segments[0, 0])


@torch.no_grad()
def test_a_copy_of_a_tower_keeps_its_frames(clip: CLIPModel) -> None:
    video = tower(clip, "3d")
    train_a_little(video)
    expected = video(raw(2, 6)).segments
    other = copy.deepcopy(video)
    assert torch.equal(other(raw(2, 6)).segments, expected)
    video(raw(2, 2))  # does not change the copy's
    assert torch.equal(other(raw(2, 6)).segments, expected)


def test_side_kernels_learn(clip: CLIPModel) -> None:
    video = tower(clip, "3d")
    video(raw()).segments.square().sum().backward()
    gradient = video.vision.embeddings.patch_embedding.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(dim=(0, 1, 3, 4)).min() > 0  # before, at, and behind


def test_other_patches_do_not_exist(clip: CLIPModel) -> None:
    with pytest.raises(ConfigError, match=r"(?s)patch is '4d'.*'2d', '3d'"):
        tower(clip, "4d")
