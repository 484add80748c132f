"""How much memory clustering holds at once: a few tensors [B, N, N], whatever the number of clusters and rounds."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from centerclip_pl.clustering import kmedoids, spectral
from centerclip_pl.clustering.distances import pairwise_distances
from centerclip_pl.clustering.refinement import refine_all, refine_changes
from centerclip_pl.clustering.seeding import farthest_points

BATCH, COUNT, CHANNELS = 4, 64, 8
PAIRS = BATCH * COUNT * COUNT * 4
"""Bytes of one float32 tensor [B, N, N]."""


class _LiveBytes(TorchDispatchMode):
    """The most bytes that the tensors made inside had at a time, and the largest one; what a single operation needs
    and frees by itself is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.largest = 0
        self._live: dict[int, weakref.ref[Tensor]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for value in tree_leaves(out):
            if not isinstance(value, Tensor):
                continue
            live = [tensor for ref in self._live.values() if (tensor := ref()) is not None]
            known = {tensor.untyped_storage().data_ptr() for tensor in live}
            # A view of what came from outside costs nothing.
            if value.untyped_storage().data_ptr() not in given - known:
                self._live[id(value)] = weakref.ref(value)
        self._measure()
        return out

    def _measure(self) -> None:
        storages = {}
        for key, ref in list(self._live.items()):
            tensor = ref()
            if tensor is None:
                del self._live[key]
            else:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(storages.values()))
        self.largest = max(self.largest, *storages.values(), 0)


def random_tokens(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, COUNT, CHANNELS, generator=torch.Generator().manual_seed(seed))


def test_the_meter_measures() -> None:
    outside = random_tokens()
    with _LiveBytes() as memory:
        view = outside[1:]
        assert memory.peak == 0
        for _ in range(3):  # one after the other, freed in between
            pairs = view.new_empty(BATCH, COUNT, COUNT)
            del pairs
        assert memory.peak == PAIRS
        first = view.new_empty(BATCH, COUNT, COUNT)
        turned = first.mT  # shares its memory
        assert memory.peak == PAIRS
        second = first + turned
        assert memory.peak == 2 * PAIRS
        del first, turned, second
    assert memory.peak == 2 * PAIRS
    assert memory.largest == PAIRS


CALLS: dict[str, Callable[..., Any]] = {
    "k-medoids": kmedoids,
    "cosine": lambda tokens, clusters: kmedoids(tokens, clusters, metric="cosine", normalize=True),
    "p=1": lambda tokens, clusters: kmedoids(tokens, clusters, p=1.0),
    "heat": spectral,
    "knn": lambda tokens, clusters: spectral(tokens, clusters, graph="knn", neighbours=9),
    "window": lambda tokens, clusters: spectral(tokens, clusters, window=(3, 3, 3), grid=(4, 4, 4), normalize=True),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("clusters", [2, 16, 32])
def test_a_few_tensors_of_pairs_at_a_time(name: str, clusters: int) -> None:
    with _LiveBytes() as memory:
        CALLS[name](random_tokens(), clusters)
    # Spectral clustering is in float64: in float32's unit, twice as much.
    in_doubles = name in ("heat", "knn", "window")
    assert memory.largest == (2 if in_doubles else 1) * PAIRS
    assert memory.peak <= (8 if in_doubles else 3.5) * PAIRS


@pytest.mark.parametrize("refine", [refine_all, refine_changes])
@pytest.mark.parametrize("clusters", [2, 16, 32])
def test_rounds_never_hold_pairs_for_each_cluster(refine: Callable[..., Tensor], clusters: int) -> None:
    tokens = random_tokens()
    distances = pairwise_distances(tokens)
    seeds = farthest_points(distances, torch.zeros(BATCH, dtype=torch.int64), clusters)
    with _LiveBytes() as memory:
        refine(tokens, distances, seeds, 100, 1e-6)
    assert memory.largest == PAIRS
    assert memory.peak < 2 * PAIRS  # beyond the distances
