"""Multi-segment token clustering by k-medoids++ (CenterCLIP, section 3.3.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from centerclip_pl.clustering import Clusters, kmedoids
from centerclip_pl.clustering.distances import check_metric
from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.reducer import Reducer
from centerclip_pl.tokens.segments import frames_per_segment, mean_of_clusters, split_segments, take_tokens


class KMedoids(Reducer):
    """Keeps the K centre tokens of each segment, in the order in which they stood, behind the mean CLS token.

    The choice itself has no gradient; the tokens chosen have.

    Args:
        after_block: how many blocks run before it.
        segments: S, segments of a video.
        clusters: K, centres of a segment.
        metric: ``"euclidean"`` (Minkowski of order `p`) or ``"cosine"``.
        p: order of the Minkowski distance.
        normalize: L2-normalise tokens before measuring distances.
        aggregation: ``"medoid"`` keeps the centre token itself, ``"mean"`` the mean of its cluster.
        max_iterations: at most so many rounds after seeding.
        tolerance: rounds end when the centres' summed shift is below it.
    """

    def __init__(
        self,
        after_block: int,
        segments: int,
        clusters: int,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        p: float = 2.0,
        normalize: bool = False,
        aggregation: Literal["medoid", "mean"] = "medoid",
        max_iterations: int = 100,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(after_block, segments)
        if clusters < 1:
            raise ConfigError(f"clusters is {clusters}, but must be at least 1")
        check_metric(metric, p)
        if aggregation not in ("medoid", "mean"):
            raise ConfigError(f"aggregation is {aggregation!r}, but must be 'medoid' or 'mean'")
        if max_iterations < 0:
            raise ConfigError(f"max_iterations is {max_iterations}, but cannot be negative")
        self.clusters = clusters
        self.metric = metric
        self.p = p
        self.normalize = normalize
        self.aggregation = aggregation
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    def cluster(self, patches: Tensor) -> Clusters:
        """Clusters the patch tokens of segments: ``[G, N, C]`` -> assignments ``[G, N]`` and medoids ``[G, K]``."""
        return kmedoids(
            patches,
            self.clusters,
            metric=self.metric,
            p=self.p,
            normalize=self.normalize,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
        )

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """``[B*frames, 1 + N, C]`` -> ``[B*S, 1 + K, C]``; see `Reducer.forward`."""
        cls, patches = split_segments(tokens, frames_per_segment(frames, self.segments))
        clusters = self.cluster(patches)
        if self.aggregation == "medoid":
            centres = take_tokens(patches, clusters.medoids)
        else:
            centres = mean_of_clusters(patches, clusters.assignments, self.clusters)
        return torch.cat([cls, centres], dim=1)

    def patches_out(self, frames: int, patches: int) -> int:
        """K; see `Reducer.patches_out`."""
        available = frames // self.segments * patches
        if self.clusters > available:
            raise ConfigError(
                f"{type(self).__name__}: clusters is {self.clusters}, but a segment of {frames // self.segments} "
                f"frames with {patches} patches each has only {available} tokens",
                f"choose clusters of at most {available}, or fewer segments",
            )
        return self.clusters
