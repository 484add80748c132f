"""Gradients through every kind of reducer against finite differences, in float64, with respect to all that goes in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call
from transformers import CLIPVisionConfig, CLIPVisionModel

from centerclip_pl.tokens import (
    KMedoids,
    Reducer,
    SegmentPooling,
    SparseSampling,
    Spectral,
    TemporalShift,
    TokenShift,
    attach,
    check_plan,
)

# Segments have fewer than 25 tokens, so distances are exact and a step as small as gradcheck's changes no choice.
FRAMES, PATCHES, WIDTH, BLOCKS = 4, 4, 8, 2
KINDS: dict[str, Callable[[], list[Reducer]]] = {
    "medoids": lambda: [KMedoids(1, 2, 3)],
    # One cluster: rounding, of which cosine distances have some, chooses between the members of a cluster of two.
    "medoids cosine embedding": lambda: [KMedoids(1, 2, 1, metric="cosine", cluster_embedding=True)],
    "means": lambda: [KMedoids(1, 2, 3, p=1.0, normalize=True, aggregation="mean")],
    "spectral": lambda: [Spectral(1, 2, 3)],
    "spectral means": lambda: [Spectral(0, 1, 5, graph="knn", neighbours=4, aggregation="mean")],
    "sampling": lambda: [SparseSampling(1, 2, 3, cluster_embedding=True)],
    "pooling": lambda: [SegmentPooling(1, 2)],
    "temporal shift": lambda: [TemporalShift()],
    "token shift": lambda: [TokenShift()],
    "stages": lambda: [TokenShift(), SegmentPooling(0, 2), KMedoids(1, 2, 3, aggregation="mean")],
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


@every_kind
def test_to_the_tokens(make: Callable[[], list[Reducer]]) -> None:
    """Every entry of the Jacobian."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(FRAMES, 1 + PATCHES, WIDTH, generator=generator, dtype=torch.float64)
    positions = torch.randn(1 + PATCHES, WIDTH, generator=generator, dtype=torch.float64)
    for reducer in make():
        reducer.train().prepare(positions)

        def reduce(tokens: Tensor, reducer: Reducer = reducer) -> Tensor:
            torch.manual_seed(0)  # training draws, the same each time
            return reducer(tokens, FRAMES)

        assert gradcheck(reduce, (tokens.clone().requires_grad_(),))


class Encoder(nn.Module):
    """A vision transformer with reducers, whose parameters are parameters of it."""

    def __init__(self, reducers: list[Reducer]) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = {"hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": BLOCKS, "num_attention_heads": 2}
        self.vision = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=8, patch_size=4)).double()
        with torch.no_grad():  # as initialised, blocks change hardly anything
            for parameter in self.vision.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        self.reducers = nn.ModuleList(reducers)
        attach(self.vision, reducers, FRAMES)

    def forward(self, pixels: Tensor) -> Tensor:
        torch.manual_seed(0)
        return self.vision(pixel_values=pixels).last_hidden_state


@every_kind
def test_to_pixels_and_parameters_through_the_transformer(make: Callable[[], list[Reducer]]) -> None:
    encoder = Encoder(make())
    parameters = dict(encoder.named_parameters())
    assert ("reducers.0.embedding" in parameters) == getattr(encoder.reducers[0], "cluster_embedding", False)
    pixels = torch.randn(FRAMES, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def run(pixels: Tensor, *values: Tensor) -> Tensor:
        return functional_call(encoder, dict(zip(parameters, values, strict=True)), (pixels,))

    segments, patches = check_plan(make(), FRAMES, PATCHES, BLOCKS)
    inputs = (pixels.requires_grad_(), *parameters.values())
    assert run(*inputs).shape == (segments, 1 + patches, WIDTH)
    assert gradcheck(run, inputs, fast_mode=True)  # along random directions, one for each input


@pytest.mark.parametrize("aggregation", ["medoid", "mean"])
def test_nothing_reaches_tokens_through_the_choice(aggregation: str) -> None:
    """Given the choice, what comes out is linear in the tokens: doubling them doubles it, and leaves the gradient."""
    tokens = torch.randn(FRAMES, 1 + PATCHES, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    reducer = KMedoids(0, 2, 3, aggregation=aggregation)  # type: ignore[arg-type]
    gradients = []
    for scale in (1.0, 2.0):  # the same medoids: distances double, and doubling is exact
        scaled = (scale * tokens).requires_grad_()
        found = reducer(scaled, FRAMES)
        weights = torch.arange(found.numel(), dtype=torch.float64).view_as(found)
        gradients += torch.autograd.grad((weights * found).sum(), scaled)
        torch.testing.assert_close(found, scale * reducer(tokens, FRAMES))
    assert torch.equal(*gradients)
