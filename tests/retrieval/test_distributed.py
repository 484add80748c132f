"""Two processes give what one gives: gradients through the gather, and metrics over uneven shards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from centerclip_pl.retrieval import RetrievalMetrics, cosine_logits, gather_with_grad, symmetric_cross_entropy
from centerclip_pl.types import VideoEmbedding

TEXTS, VIDEOS, SEGMENTS, CHANNELS = 17, 9, 2, 6


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradient_inputs() -> dict[str, Any]:
    mask = torch.ones(6, SEGMENTS, dtype=torch.bool)
    mask[4, 1] = False
    weights = {"text": noise(5, 4, seed=0), "video": noise(7, 4, seed=1), "logit_scale": torch.tensor(1.5)}
    return {"weights": weights, "text": noise(6, 5, seed=2), "video": noise(6, SEGMENTS, 7, seed=3), "mask": mask}


def gather_inputs() -> dict[str, Any]:
    return {
        "fitting": {
            "floats": [noise(3, 2, seed=0), noise(3, 2, seed=1)],
            "flags": [torch.tensor([True, False]), torch.tensor([False, False])],
            "transposed": [noise(2, 3, seed=0).T, noise(2, 3, seed=1).T],
            "uneven": [noise(3, 2, seed=0), noise(5, 2, seed=1)],
            "nothing in one": [noise(0, 2, seed=0), noise(2, 2, seed=1)],
        },
        "unequal": {
            "dims": [torch.zeros(3, 2), torch.zeros(3, 2, 1)],
            "scalar": [torch.tensor(1.0), torch.tensor(1.0)],
        },
    }


def evaluation() -> dict[str, Any]:
    """All texts and videos of a small evaluation, ids not from 0, one video without texts, two videos the same."""
    videos = noise(VIDEOS, SEGMENTS, CHANNELS, seed=4)
    videos[7] = videos[2]
    mask = torch.ones(VIDEOS, SEGMENTS, dtype=torch.bool)
    mask[3, 1] = False
    own = torch.randint(VIDEOS - 1, (TEXTS,), generator=torch.Generator().manual_seed(5))
    text = videos.mean(1)[own] + 1.5 * noise(TEXTS, CHANNELS, seed=6)
    return {"text": text, "own": own, "segments": videos, "mask": mask}


def batch(texts: list[int], videos: list[int]) -> dict[str, Any]:
    data, t, v = evaluation(), torch.tensor(texts, dtype=torch.int64), torch.tensor(videos, dtype=torch.int64)
    return {
        "text": data["text"][t],
        "text_ids": 100 + t,
        "video_of_text": 50 + 3 * data["own"][t],
        "video": (data["segments"][v], data["mask"][v]),
        "video_ids": 50 + 3 * v,
    }


MORE = [batch([TEXTS - 1], []), batch([], [VIDEOS - 1])]
EVERYTHING = [batch(list(range(TEXTS - 1)), list(range(VIDEOS - 1)))]
SHARDS = {
    # Rank 0 has more batches than rank 1; texts come apart from their videos; some come twice, also across processes.
    "uneven": [
        [batch([15, 3, 7], [1, 0]), batch([0, 1, 2, 4], [7, 6, 5]), batch([3, 8, 9, 10, 11], [1, 2])],
        [batch([5, 6, 12, 13, 14, 0], [4, 3, 0])],
    ],
    "nothing_in_one": [[], EVERYTHING],
    "only_videos_in_one": [[batch([], list(range(VIDEOS - 1)))], [batch(list(range(TEXTS - 1)), [])]],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found, by task."""
    folder = tmp_path_factory.mktemp("processes")
    subset = torch.tensor([110, 103, 104])
    inputs = {"gradients": gradient_inputs(), "gathered": gather_inputs()}
    for name, batches in SHARDS.items():
        inputs[f"metrics-{name}"] = {"batches": batches, "more": MORE, "subset": subset, "chunk_size": 4}
    torch.save(inputs, folder / "inputs.pt")
    here = Path(__file__)
    paths = [str(here.parents[2]), os.environ.get("PYTHONPATH", "")]
    subprocess.run(
        [sys.executable, str(here.with_name("distributed_worker.py")), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=180,
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_gradients_are_those_of_one_process(results: list[dict[str, Any]]) -> None:
    given = gradient_inputs()
    weights = {name: value.requires_grad_() for name, value in given["weights"].items()}
    video = VideoEmbedding(given["video"] @ weights["video"], given["mask"])
    loss = symmetric_cross_entropy(cosine_logits(given["text"] @ weights["text"], video, weights["logit_scale"]))
    loss.backward()
    for found in results:
        torch.testing.assert_close(found["gradients"]["loss"], loss.detach(), atol=1e-6, rtol=0)
        for name, value in weights.items():
            assert value.grad is not None
            assert value.grad.abs().max() > 1e-3
            torch.testing.assert_close(found["gradients"][name], value.grad, atol=1e-6, rtol=0)


def test_gather_concatenates_in_order_of_ranks(results: list[dict[str, Any]]) -> None:
    for found in results:
        for name, values in gather_inputs()["fitting"].items():
            assert found["gathered"][name].equal(torch.cat(values))


def test_unequal_shapes_are_an_error_in_every_process(results: list[dict[str, Any]]) -> None:
    for found in results:
        assert "[3, 2], [3, 2, 1]" in found["gathered"]["dims"]
        assert "0 dimensions" in found["gathered"]["scalar"]


def test_gather_in_one_process_is_the_tensor_itself() -> None:
    tensor = noise(2, 3, seed=0)
    assert gather_with_grad(tensor) is tensor


def in_one_process(batches: list[dict[str, Any]]) -> RetrievalMetrics:
    metric = RetrievalMetrics(chunk_size=1000)
    for given in batches:
        metric.update(**{**given, "video": VideoEmbedding(*given["video"])})
    return metric


@pytest.mark.parametrize("shards", list(SHARDS))
def test_metrics_are_those_of_one_process(results: list[dict[str, Any]], shards: str) -> None:
    metric = in_one_process(EVERYTHING)
    figures = metric.compute()
    assert 0 < figures["t2v/R@1"] < 100
    table, top, subset = metric.ranks(), metric.top(3), metric.compute_subset(torch.tensor([110, 103, 104]))
    assert (table.t2v % 1 == 0.5).any(), "the two videos that are the same give ties"
    more = in_one_process([*EVERYTHING, *MORE]).compute()
    assert more != figures
    for rank, found in enumerate(result[f"metrics-{shards}"] for result in results):
        assert found["figures"] == figures
        for mine, expected in zip(found["ranks"], table, strict=True):
            assert mine.equal(expected)
        assert found["top"].equal(top)
        assert found["subset"] == subset
        assert found["kept"] == sum(len(given["text_ids"]) for given in SHARDS[shards][rank])
        assert found["more"] == more
        assert "1 texts describe videos that are not among the 1 collected" in found["error"]
