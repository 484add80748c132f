"""Multi-segment token clustering by k-medoids++ (CenterCLIP, section 3.3.1)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from centerclip_pl.clustering import Clusters, kmedoids
from centerclip_pl.clustering.distances import check_metric
from centerclip_pl.tokens.selection import TokenClustering


class KMedoids(TokenClustering):
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
        cluster_embedding: add a learned embedding to the centres; see `TokenSelection`.
        max_iterations: at most so many rounds after seeding.
        tolerance: rounds end when the centres' summed shift is below it.
    """

    name = "k-medoids"

    def __init__(
        self,
        after_block: int,
        segments: int,
        clusters: int,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        p: float = 2.0,
        normalize: bool = False,
        aggregation: Literal["medoid", "mean"] = "medoid",
        cluster_embedding: bool = False,
        max_iterations: int = 100,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(
            after_block, segments, clusters, aggregation, cluster_embedding, normalize, max_iterations, tolerance
        )
        check_metric(metric, p)
        self.metric = metric
        self.p = p

    def cluster(self, patches: Tensor, frames: int) -> Clusters:
        """See `TokenClustering.cluster`."""
        return kmedoids(
            patches,
            self.clusters,
            metric=self.metric,
            p=self.p,
            normalize=self.normalize,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
        )
