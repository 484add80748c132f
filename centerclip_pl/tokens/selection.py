"""What reducers that choose tokens have in common, and the simplest of them: sampling in equal steps."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centerclip_pl.clustering import Clusters
from centerclip_pl.draws import TOKENS, uniform
from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.reducer import SegmentReducer
from centerclip_pl.tokens.segments import frames_per_segment, mean_of_clusters, split_segments, take_tokens


class TokenSelection(SegmentReducer):
    """Keeps K patch tokens of each segment, in the order in which they stood, behind the mean CLS token.

    The choice itself has no gradient; the tokens chosen have.

    Args:
        after_block: how many blocks run before it.
        segments: S, segments of a video.
        clusters: K, tokens kept of a segment.
        cluster_embedding: add a learned embedding ``[K, C]`` to the tokens kept, one to each in their order. It starts
            from CLIP's positional embedding of the patches (linearly interpolated in their order where K differs).
    """

    def __init__(self, after_block: int, segments: int, clusters: int, cluster_embedding: bool = False) -> None:
        super().__init__(after_block, segments)
        if clusters < 1:
            raise ConfigError(f"clusters is {clusters}, but must be at least 1")
        self.clusters = clusters
        self.cluster_embedding = cluster_embedding
        self.embedding: nn.Parameter | None
        self.register_parameter("embedding", None)

    @abstractmethod
    def select(self, patches: Tensor, frames: int) -> Tensor:
        """Which tokens are kept of each segment.

        Args:
            patches: float ``[G, frames*N, C]``, frame by frame.
            frames: frames of a segment.

        Returns:
            int64 ``[G, K]``, ascending.
        """

    def centres(self, patches: Tensor, frames: int) -> Tensor:
        """What is kept of each segment: ``[G, frames*N, C]`` -> ``[G, K, C]``."""
        return take_tokens(patches, self.select(patches, frames))

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """``[B*frames, 1 + N, C]`` -> ``[B*S, 1 + K, C]``; see `Reducer.forward`."""
        each = frames_per_segment(frames, self.segments)
        cls, patches = split_segments(tokens, each)
        centres = self.centres(patches, each)
        if self.cluster_embedding:
            if self.embedding is None:
                raise ConfigError(f"{type(self).__name__}: its cluster embedding was not made", "attach it, or prepare")
            centres = centres + self.embedding
        return torch.cat([cls, centres], dim=1)

    def prepare(self, positions: Tensor) -> None:
        """Makes the cluster embedding, if there is to be one; see `Reducer.prepare`."""
        if self.cluster_embedding and self.embedding is None:
            patches = positions.detach()[1:].float().T[None]  # (1 + P, C) -> (1, C, P)
            start = F.interpolate(patches, self.clusters, mode="linear", align_corners=True)[0].T  # (K, C)
            self.embedding = nn.Parameter(start.to(positions).contiguous())

    def patches_out(self, frames: int, patches: int) -> int:
        """K; see `SegmentReducer.patches_out`."""
        available = frames // self.segments * patches
        if self.clusters > available:
            raise ConfigError(
                f"{type(self).__name__}: clusters is {self.clusters}, but a segment of {frames // self.segments} "
                f"frames with {patches} patches each has only {available} tokens",
                f"choose clusters of at most {available}, or fewer segments",
            )
        return self.clusters


class TokenClustering(TokenSelection):
    """Clusters the patch tokens of each segment and keeps the centres.

    Args:
        after_block: how many blocks run before it.
        segments: S, segments of a video.
        clusters: K, centres of a segment.
        aggregation: ``"medoid"`` keeps the centre token itself, ``"mean"`` the mean of its cluster.
        cluster_embedding: see `TokenSelection`.
        normalize: L2-normalise tokens before measuring distances.
        max_iterations: rounds of k-medoids at most.
        tolerance: rounds end when the centres' summed shift is below it.
    """

    def __init__(
        self,
        after_block: int,
        segments: int,
        clusters: int,
        aggregation: Literal["medoid", "mean"] = "medoid",
        cluster_embedding: bool = False,
        normalize: bool = False,
        max_iterations: int = 100,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(after_block, segments, clusters, cluster_embedding)
        if aggregation not in ("medoid", "mean"):
            raise ConfigError(f"aggregation is {aggregation!r}, but must be 'medoid' or 'mean'")
        self.aggregation = aggregation
        if max_iterations < 0:
            raise ConfigError(f"max_iterations is {max_iterations}, but cannot be negative")
        self.normalize = normalize
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    @abstractmethod
    def cluster(self, patches: Tensor, frames: int) -> Clusters:
        """Clusters segments: ``[G, frames*N, C]`` -> assignments ``[G, frames*N]`` and medoids ``[G, K]``."""

    def select(self, patches: Tensor, frames: int) -> Tensor:
        """The medoids; see `TokenSelection.select`."""
        return self.cluster(patches, frames).medoids

    def centres(self, patches: Tensor, frames: int) -> Tensor:
        """Medoids or means of clusters; see `TokenSelection.centres`."""
        clusters = self.cluster(patches, frames)
        if self.aggregation == "medoid":
            return take_tokens(patches, clusters.medoids)
        return mean_of_clusters(patches, clusters.assignments, self.clusters)


class SparseSampling(TokenSelection):
    """Keeps one token of each of K equal bins of a segment's tokens: in training a random one, else the bin's centre.

    A method that CenterCLIP compares with: it costs nothing, and shows what clustering adds to having fewer
    tokens. Bin k of N tokens begins at ``N / K * k``; its centre is ``int(N / K / 2 + N / K * k)``.

    Args:
        after_block: how many blocks run before it.
        segments: S, segments of a video.
        clusters: K, tokens kept of a segment.
        cluster_embedding: see `TokenSelection`.
    """

    name = "sparse sampling"

    def select(self, patches: Tensor, frames: int) -> Tensor:
        """See `TokenSelection.select`."""
        groups, count, _ = patches.shape
        bins = torch.arange(self.clusters + 1, device=patches.device)
        if not self.training:
            tick = count / self.clusters
            return (tick / 2 + tick * bins[:-1].double()).long().expand(groups, -1)
        edges = bins * count // self.clusters  # in whole numbers: rounding could let two bins share a token
        begin, end = edges[:-1], edges[1:]
        videos = groups // self.segments
        shape, part = (self.segments, self.clusters), (TOKENS, self.after_block)
        random = uniform(videos, shape, patches.device, part=part).flatten(0, 1)  # (B, S, K) -> (G, K)
        return torch.minimum(begin + (random * (end - begin)).long(), end - 1)
