"""Gradients of the whole module, loss to pixels' embedding, against finite differences, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.tokens import (
    KMedoids,
    Reducer,
    SegmentPooling,
    SparseSampling,
    Spectral,
    TemporalShift,
    TokenClustering,
    TokenShift,
)
from centerclip_pl.types import Batch

REDUCERS: dict[str, Callable[[], Reducer | list[Reducer] | None]] = {
    "none": lambda: None,
    "KMedoids": lambda: KMedoids(1, 2, 3, cluster_embedding=True),
    "KMedoids mean": lambda: KMedoids(1, 2, 3, aggregation="mean"),
    "Spectral": lambda: Spectral(1, 2, 3, sigma=4.0),
    "SparseSampling": lambda: SparseSampling(0, 2, 5),
    "SegmentPooling": lambda: SegmentPooling(1, 2),
    "TemporalShift": TemporalShift,
    "TokenShift": TokenShift,
    "two stages": lambda: [SegmentPooling(0, 2), KMedoids(1, 1, 5, aggregation="mean")],
}
HEADS = ("meanP", "seqLSTM", "seqTransf", "tightTransf")


def config() -> CLIPConfig:
    tower = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 18, "eos_token_id": 19}
    return CLIPConfig(
        text_config=tower | text, vision_config=tower | {"image_size": 16, "patch_size": 8}, projection_dim=16
    )


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.arange(3)
    words = torch.randint(0, 18, (3, 6), generator=generator)
    return Batch(
        frames=torch.randn(3, 4, 3, 16, 16, generator=generator, dtype=torch.float64),
        frame_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]).bool(),
        video_ids=ids,
        input_ids=words,
        attention_mask=torch.ones_like(words),
        text_ids=ids,
        video_of_text=ids,
    )


def always_the_same_clusters(module: TextVideoRetrieval) -> None:
    """The choice has no gradient, and rounding must not change it between two forward passes that are compared."""
    for reducer in module.reducers:
        if isinstance(reducer, TokenClustering):
            kept: list[Any] = []

            def cluster(patches: Tensor, frames: int, kept: list[Any] = kept, choose: Any = reducer.cluster) -> Any:
                if not kept:
                    kept.append(choose(patches, frames))
                return kept[0]

            reducer.cluster = cluster  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("reduction", "head", "patch"),
    [(name, "meanP", "2d") for name in REDUCERS]
    + [("none", head, "2d") for head in HEADS[1:]]
    + [("KMedoids", head, "2d") for head in HEADS[1:]]
    + [("none", "meanP", "3d"), ("KMedoids", "seqTransf", "3d")],
)
def test_gradients_are_slopes(reduction: str, head: str, patch: str) -> None:
    torch.manual_seed(0)
    module = TextVideoRetrieval(config(), REDUCERS[reduction](), head, patch, num_frames=4)  # type: ignore[arg-type]
    module = module.double().eval()  # eval: no dropout
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name != "logit_scale":
                parameter.add_(0.15 * torch.randn_like(parameter))
    always_the_same_clusters(module)
    data = batch()
    loss = module.batch_loss(data)
    assert loss.dtype == torch.float64
    loss.backward()
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    without = [name for name, p in trained.items() if p.grad is None]
    assert not without
    # One direction for each part, so that a mistake in a small one is not drowned by a large one.
    parts: dict[str, list[str]] = {}
    for name in trained:
        parts.setdefault(".".join(name.split(".")[:5]), []).append(name)
    step = 1e-5
    for part, names in parts.items():
        directions = {name: torch.randn_like(trained[name]) for name in names}
        slope = sum(float((trained[name].grad * directions[name]).sum()) for name in names)  # type: ignore[operator]
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for name in names:
                    trained[name].add_(sign * step * directions[name])
                ends.append(float(module.batch_loss(data)))
                for name in names:
                    trained[name].sub_(sign * step * directions[name])
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=2e-4, abs=1e-7), part


@pytest.mark.parametrize("rule", ["any", "last"])
@pytest.mark.parametrize("head", HEADS)
def test_padding_does_not_matter(rule: str, head: str) -> None:
    """What stands in frames of segments that do not count changes no score and gets no gradient."""
    torch.manual_seed(0)
    module = TextVideoRetrieval(config(), KMedoids(1, 2, 3), head, num_frames=4, segment_mask=rule).eval()  # type: ignore[arg-type]
    data = batch()
    frames = data["frames"].float()
    text = module.encode_text(data["input_ids"], data["attention_mask"])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    counts = {"any": [[True, True], [True, False], [True, True]], "last": [[True, True], [True, False], [True, False]]}
    pixels = frames.clone().requires_grad_()
    video = module.encode_video(pixels, mask)
    assert video.mask.tolist() == counts[rule]
    scores = module.similarity(text, video)
    scores.sum().backward()
    assert pixels.grad is not None
    assert pixels.grad[1, :2].abs().sum() > 0
    assert not pixels.grad[1, 2:].any()
    assert bool(pixels.grad[2, 2:].any()) == (rule == "any")
    other = frames.clone()
    other[1, 2:] = 7.0
    torch.testing.assert_close(module.similarity(text, module.encode_video(other, mask)), scores)
