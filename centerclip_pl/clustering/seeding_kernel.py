"""Farthest-point seeding in one launch on a GPU, by Triton, which comes with torch for CUDA.

Step by step in torch, each of the K medoids is four small kernels, and the GPU waits for their launches. Here one
program does all steps of a sample: its distances to the nearest medoid stay in registers, and each step reads one row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_TOKENS = 2**15
"""That fit one program's registers."""


@triton.jit
def _farthest_points(distances, first, medoids, count, clusters, block: tl.constexpr):  # type: ignore[no-untyped-def]
    sample = tl.program_id(0).to(tl.int64)
    tokens = tl.arange(0, block)
    inside = tokens < count
    rows = distances + sample * count * count
    latest = tl.load(first + sample).to(tl.int64)
    tl.store(medoids + sample * clusters, latest)
    nearest = tl.where(inside, float("inf"), float("-inf"))
    for k in range(1, clusters):
        row = tl.load(rows + latest * count + tokens, mask=inside, other=0.0)
        nearest = tl.minimum(nearest, row)
        nearest = tl.where(tokens == latest, float("-inf"), nearest)  # a medoid is not chosen again
        latest = tl.argmax(nearest, axis=0, tie_break_left=True).to(tl.int64)
        tl.store(medoids + sample * clusters + k, latest)


def farthest_points_in_one_launch(distances: Tensor, first: Tensor, num_clusters: int) -> Tensor:
    """As `centerclip_pl.clustering.seeding.farthest_points`, for float32 distances and at most `MOST_TOKENS` tokens."""
    batch, count, _ = distances.shape
    medoids = torch.empty(batch, num_clusters, dtype=torch.int64, device=distances.device)
    block = triton.next_power_of_2(count)
    _farthest_points[(batch,)](
        distances, first, medoids, count, num_clusters, block=block, num_warps=4 if block <= 2048 else 8
    )
    return medoids
