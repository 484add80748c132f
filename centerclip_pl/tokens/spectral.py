"""Multi-segment token clustering by spectral clustering (CenterCLIP, section 3.3.2)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from centerclip_pl.clustering import Clusters, spectral
from centerclip_pl.clustering.spectral import NEIGHBOURS_A_FRAME, check_graph
from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.selection import TokenClustering

_PATCHES_OF_B16 = 196


class Spectral(TokenClustering):
    """Keeps the K centre tokens of each segment that spectral clustering finds, behind the mean CLS token.

    Args:
        after_block: how many blocks run before it.
        segments: S, segments of a video.
        clusters: K, centres of a segment.
        graph: ``"heat"`` connects all tokens, ``"knn"`` each with its nearest `neighbours`.
        sigma: width of the affinity ``exp(-d^2 / (2 sigma^2))``; 2 is the paper's.
        neighbours: of the "knn" graph; None: the paper's 5 for each frame of the segment, and 5 more where a frame has
            as many patches as ViT-B/16's 196.
        window: frames, rows and columns (odd): only tokens so near each other are connected. The paper's are (7, 9, 9)
            for B/32 and (7, 19, 19) for B/16. Needs frames whose patches are all there, so no clustering before it.
        normalize: L2-normalise tokens before measuring distances.
        aggregation: ``"medoid"`` keeps the centre token itself, ``"mean"`` the mean of its cluster.
        cluster_embedding: add a learned embedding to the centres; see `TokenSelection`.
        max_iterations: rounds of k-medoids at most.
        tolerance: rounds end when the centres' summed shift, in the spectral embedding, is below it.
    """

    name = "spectral clustering"

    def __init__(
        self,
        after_block: int,
        segments: int,
        clusters: int,
        graph: Literal["heat", "knn"] = "heat",
        sigma: float = 2.0,
        neighbours: int | None = None,
        window: tuple[int, int, int] | None = None,
        normalize: bool = False,
        aggregation: Literal["medoid", "mean"] = "medoid",
        cluster_embedding: bool = False,
        max_iterations: int = 100,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(
            after_block, segments, clusters, aggregation, cluster_embedding, normalize, max_iterations, tolerance
        )
        check_graph(graph, sigma, neighbours, window)
        self.graph = graph
        self.sigma = sigma
        self.neighbours = neighbours
        self.window = None if window is None else (window[0], window[1], window[2])

    def cluster(self, patches: Tensor, frames: int) -> Clusters:
        """See `TokenClustering.cluster`."""
        each = patches.shape[1] // frames
        side = math.isqrt(each)
        neighbours = self.neighbours
        if neighbours is None:
            neighbours = NEIGHBOURS_A_FRAME * frames + (NEIGHBOURS_A_FRAME if each >= _PATCHES_OF_B16 else 0)
        return spectral(
            patches,
            self.clusters,
            graph=self.graph,
            sigma=self.sigma,
            neighbours=neighbours,
            window=self.window,
            grid=(frames, side, side) if side * side == each else None,
            normalize=self.normalize,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
        )

    def patches_out(self, frames: int, patches: int) -> int:
        """K; see `SegmentReducer.patches_out`."""
        if self.window is not None and math.isqrt(patches) ** 2 != patches:
            raise ConfigError(
                f"{type(self).__name__}: a window needs whole frames, but {patches} patches are no square",
                "set window to null, or let no other reducer choose tokens before it",
            )
        return super().patches_out(frames, patches)
