"""Stand-ins for what depends on the data, or on other processes, in a step of which only the shapes are known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from centerclip_pl.clustering import Clusters
from centerclip_pl.clustering.refinement import refine_all
from centerclip_pl.retrieval import gather
from centerclip_pl.training import module as module_of_the_step
from centerclip_pl.training.grad_cache import embed_in_chunks
from centerclip_pl.training.memory.ledger import Ledger

CLUSTERING, COMMUNICATION = "clustering", "communication"


@contextmanager
def stand_ins(ledger: Ledger, *, processes: int = 1, on_cpu: bool = False) -> Iterator[None]:
    """Inside, clustering and gathering run on tensors without data, and make tensors of the sizes they always make.

    - Clustering: distances, affinities and eigenvectors are those of the package's own code. The seeds and the rounds
      that follow, whose number and choices depend on the data, are replaced by one round over all tokens: the largest
      one. That tokens are finite is not checked. What is made there is labelled so in the account.
    - Chunks of GradCache: the first two are embedded, and then again in the backward pass. Of the others only the
      embeddings are made, which is all that a chunk leaves.
    - Gathering: `centerclip_pl.retrieval.gather_with_grad` finds as many processes as it is told, and no network.

    Args:
        ledger: the account.
        processes: that train together.
        on_cpu: clustering as it goes on a CPU, which keeps the distances to the medoids during the rounds.
    """

    def refine(points: Tensor, distances: Tensor, seeds: Tensor, max_iterations: int, tolerance: float) -> Tensor:
        batch, count, _ = distances.shape
        kept = distances.new_empty(batch, seeds.shape[1], count) if on_cpu else None
        medoids = refine_all(points, distances, seeds, min(max_iterations, 1), tolerance)
        del kept
        return medoids

    functions, reducers = "centerclip_pl.clustering", "centerclip_pl.tokens"
    replaced: list[tuple[Any, str, Any]] = [
        (_module(f"{functions}.kmedoids"), "farthest_points", _seeds),
        (_module(f"{functions}.kmedoids"), "refine", refine),
        (_module(f"{functions}.kmedoids"), "check_finite", _nothing),
        (_module(f"{functions}.spectral"), "check_finite", _nothing),
        (module_of_the_step, "embed_in_chunks", _embed_two_chunks),
        (gather, "_rows_of_each", lambda tensor: [len(tensor)] * processes),
        (gather, "dist", _Processes(processes, ledger)),
    ]
    for name in ("kmedoids", "spectral"):
        module = _module(f"{reducers}.{name}")
        replaced.append((module, name, _labelled(getattr(module, name), ledger)))
    with ExitStack() as stack:
        for module, name, instead in replaced:
            stack.enter_context(mock.patch.object(module, name, instead))
        yield


def _module(name: str) -> Any:
    # By its full name: as an attribute of its package it is the function of the same name.
    __import__(name)
    return sys.modules[name]


def _seeds(distances: Tensor, first: Tensor, num_clusters: int) -> Tensor:
    return first[:, None].expand(-1, num_clusters).contiguous()


def _embed_two_chunks(
    embed: Callable[..., Any], inputs: Sequence[Tensor], chunk: int, join: Callable[[list[Any]], Any]
) -> Any:
    rows, few = len(inputs[0]), 2 * chunk
    if rows <= few:
        return embed_in_chunks(embed, inputs, chunk, join)
    found = embed_in_chunks(embed, [tensor[:few] for tensor in inputs], chunk, join)
    return join([found, tree_map(lambda part: part.new_empty(rows - few, *part.shape[1:]), found)])


def _nothing(*_: Any) -> None:
    pass


def _labelled(function: Callable[..., Clusters], ledger: Ledger) -> Callable[..., Clusters]:
    @wraps(function)
    def labelled(*args: Any, **kwargs: Any) -> Clusters:
        with ledger.label(CLUSTERING):
            return function(*args, **kwargs)

    return labelled


class _Processes:
    """In place of `torch.distributed`: so many processes, none of which sends anything."""

    def __init__(self, count: int, ledger: Ledger) -> None:
        self._count = count
        self._ledger = ledger

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self._count > 1

    def get_world_size(self) -> int:
        return self._count

    def get_rank(self) -> int:
        return 0

    def all_gather(self, parts: list[torch.Tensor], own: Tensor) -> None:
        self._ledger.claim(COMMUNICATION, parts)

    def all_reduce(self, total: Tensor) -> None:
        self._ledger.claim(COMMUNICATION, [total])
