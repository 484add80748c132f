"""What the metric holds between batches and ranking: each embedding once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from centerclip_pl.errors import DataError
from centerclip_pl.retrieval import RetrievalMetrics
from centerclip_pl.retrieval.collecting import take_rows
from centerclip_pl.types import VideoEmbedding

COUNT, CHANNELS = 60, 8


def batches(rows: Tensor, size: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    videos = torch.randn(COUNT, 1, CHANNELS, generator=generator)
    text = videos[:, 0] + 2 * torch.randn(COUNT, CHANNELS, generator=generator)
    return [
        {
            "text": text[some],
            "text_ids": 7 + some,
            "video_of_text": 100 - some,
            "video": VideoEmbedding(videos[some], torch.ones(len(some), 1, dtype=torch.bool)),
            "video_ids": 100 - some,
        }
        for some in rows.split(size)
    ]


def metric_of(rows: Tensor, size: int) -> RetrievalMetrics:
    metric = RetrievalMetrics()
    for batch in batches(rows, size):
        metric.update(**batch)
    return metric


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_batches_are_rows_of_all(seed: int) -> None:
    generator = random.Random(seed)
    counts = [generator.choice([0, 1, 2, 5]) for _ in range(generator.randint(1, 8))] + [3]
    everything = torch.randn(sum(counts), 4, generator=torch.Generator().manual_seed(seed))
    chosen = list(range(sum(counts)))
    if seed % 4:
        chosen = generator.sample(chosen, generator.randint(1, len(chosen)))
    if seed % 4 == 1:
        chosen.sort()
    state = [part.flatten() for part in everything.split(counts)]
    taken = take_rows(state, counts, torch.tensor(chosen))
    assert taken.view(-1, 4).equal(everything[chosen])
    assert state == []
    assert (
        take_rows(everything.flatten(), [len(everything)], torch.tensor(chosen)).view(-1, 4).equal(everything[chosen])
    )


def test_what_is_in_order_is_not_copied() -> None:
    whole = torch.arange(12.0)
    assert take_rows([whole], [4], torch.arange(4)).data_ptr() == whole.data_ptr()
    assert take_rows([whole], [4], torch.tensor([1, 0, 2, 3])).data_ptr() != whole.data_ptr()


@pytest.mark.parametrize("size", [COUNT, 7])
def test_the_states_are_the_gallerys_own(size: int) -> None:
    metric = metric_of(torch.arange(COUNT), size)
    first = metric.compute()
    assert metric._ranking is not None
    gallery = metric._ranking[0]
    held = {"text": gallery.text, "segments": gallery.video.segments, "mask": gallery.video.mask}
    for name, tensor in held.items():
        (state,) = getattr(metric, name)
        assert state.data_ptr() == tensor.data_ptr()
    metric.reset()
    for batch in batches(torch.arange(COUNT), size):
        metric.update(**batch)
    assert metric.compute() == first


def test_batches_may_follow_a_ranking() -> None:
    rows = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    expected = metric_of(torch.arange(COUNT), COUNT)
    metric = RetrievalMetrics()
    for batch in batches(rows, 13):
        metric.update(**batch)
        metric.compute()
    assert metric.compute() == expected.compute()
    for mine, theirs in zip(metric.ranks(), expected.ranks(), strict=True):
        assert mine.equal(theirs)


def test_an_error_loses_nothing() -> None:
    metric = metric_of(torch.arange(COUNT), 7)
    stray = batches(torch.arange(COUNT), COUNT)[0]
    metric.update(**{**stray, "text_ids": stray["text_ids"] + 1000, "video_of_text": stray["video_ids"] + 500})
    with pytest.raises(DataError, match="60 texts describe videos that are not"):
        metric.compute()
    metric.update(**{**stray, "text_ids": stray["text_ids"] + 2000, "video_ids": stray["video_ids"] + 500})
    assert metric.compute()["t2v/MnR"] > 1
    assert len(metric.ranks().text_ids) == 3 * COUNT


def test_metrics_that_share_their_states() -> None:
    together = MetricCollection(
        {"one": RetrievalMetrics(), "two": RetrievalMetrics(ks=(3,))}, compute_groups=[["one", "two"]]
    )
    for _ in range(2):
        for batch in batches(torch.arange(COUNT).flip(0), 7):
            together.update(**batch)
        figures = together.compute()
        expected = metric_of(torch.arange(COUNT), COUNT).compute()
        assert figures["one_t2v/R@10"] == expected["t2v/R@10"]
        for direction in ("t2v", "v2t"):
            mean = expected[f"{direction}/MnR"]
            assert figures[f"one_{direction}/MnR"] == figures[f"two_{direction}/MnR"] == mean
