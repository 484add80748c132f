"""The video tower: CLIP's vision transformer with reducers, from raw frames to segment embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.models.patches import TemporalPatchEmbedding, use_temporal_patches
from centerclip_pl.tokens import Attachment, Reducer, attach, segment_mask
from centerclip_pl.types import VideoEmbedding

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PATCHES = ("2d", "3d")


def _side(size: int | list[int] | tuple[int, int] | None) -> int:
    if not isinstance(size, int):
        raise ConfigError(f"the vision transformer takes pictures or patches of size {size}, but must take squares")
    return size


class VideoTower(nn.Module):
    """Frames of videos to embeddings of segments.

    Args:
        vision: CLIP's vision transformer.
        projection: from its width to the shared space, ``[width] -> [D]``.
        reducers: put into the transformer; without any, a segment is a frame.
        num_frames: T that the reducers are checked against now, before any video comes.
        mask_rule: see `centerclip_pl.tokens.segment_mask`.
        patch: ``"2d"``: each frame by itself is cut into patches; ``"3d"``: with its neighbours, see
            `centerclip_pl.models.patches`.

    Raises:
        ConfigError: if reducers, frames and transformer do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        vision: CLIPVisionModel,
        projection: nn.Linear,
        reducers: Sequence[Reducer] = (),
        num_frames: int = 12,
        mask_rule: str = "any",
        patch: str = "2d",
    ) -> None:
        super().__init__()
        if patch not in PATCHES:
            raise ConfigError(f"patch is {patch!r}", f"choose one of {', '.join(map(repr, PATCHES))}")
        self.vision = vision
        if patch == "3d":
            use_temporal_patches(vision)
        self.projection = projection
        self.reducers = nn.ModuleList(reducers)
        self.mask_rule = mask_rule
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)
        segment_mask(torch.ones(1, 1), 1, mask_rule)  # refuses an unknown rule
        self._attachment: Attachment | None = None
        self._attach(num_frames)

    @property
    def image_size(self) -> int:
        """Side of the square pictures that the transformer takes, in pixels."""
        return _side(self.vision.config.image_size)

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // _side(self.vision.config.patch_size)

    def _attach(self, frames: int) -> Attachment:
        if self._attachment is None or self._attachment.frames != frames:
            reducers = [r for r in self.reducers if isinstance(r, Reducer)]
            self._attachment = attach(self.vision, reducers, frames)
            for module in self.vision.modules():
                if isinstance(module, TemporalPatchEmbedding):
                    module.frames = frames
        return self._attachment

    def forward(self, frames: Tensor, frame_mask: Tensor | None = None) -> VideoEmbedding:
        """Embeds videos.

        Args:
            frames: ``[B, T, 3, H, W]``; uint8 as decoded (normalised here), or float and already normalised.
            frame_mask: bool or int ``[B, T]``, true for real frames; None: all are.

        Returns:
            Segments ``[B, S, D]`` and their mask ``[B, S]``.

        Raises:
            ConfigError: on frames of another shape or size than the transformer takes.
        """
        if (
            frames.ndim != 5
            or frames.shape[2] != 3
            or frames.shape[3] != self.image_size
            or frames.shape[4] != self.image_size
        ):
            raise ConfigError(
                f"frames have shape {tuple(frames.shape)}, but must be [B, T, 3, {self.image_size}, {self.image_size}]"
            )
        videos, length = frames.shape[:2]
        segments = self._attach(length).segments
        pictures = frames.flatten(0, 1)  # (B, T, 3, H, W) -> (B*T, 3, H, W)
        if not pictures.is_floating_point():
            pictures = pictures.to(self.mean.dtype).div_(255).sub_(self.mean).div_(self.std)  # in place: one new tensor
        pooled = self.vision(pixel_values=pictures).pooler_output  # (B*S, width)
        embedded = self.projection(pooled).view(videos, segments, -1)  # (B*S, D) -> (B, S, D)
        if frame_mask is None:
            mask = torch.ones(videos, segments, dtype=torch.bool, device=embedded.device)
        else:
            if frame_mask.shape != (videos, length):
                raise ConfigError(f"frame_mask has shape {tuple(frame_mask.shape)}, but must be [{videos}, {length}]")
            mask = segment_mask(frame_mask, segments, self.mask_rule)
        return VideoEmbedding(embedded, mask)
