"""What every reducer must do, for all of them alike."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.models import recompute_activations
from centerclip_pl.tokens import (
    KMedoids,
    Reducer,
    SegmentPooling,
    SegmentReducer,
    SparseSampling,
    Spectral,
    TemporalShift,
    TokenClustering,
    TokenSelection,
    TokenShift,
    attach,
    check_plan,
    registered_reducers,
)

FRAMES, PATCHES, WIDTH, BLOCKS = 6, 16, 32, 4
EXAMPLES: dict[str, Callable[[], list[Reducer]]] = {
    "kmedoids": lambda: [KMedoids(2, 3, 7)],
    "kmedoids mean": lambda: [KMedoids(2, 3, 7, aggregation="mean")],
    "kmedoids cosine": lambda: [KMedoids(0, 2, 9, metric="cosine")],
    "kmedoids p=1 normalised": lambda: [KMedoids(3, 6, 5, p=1.0, normalize=True)],
    "kmedoids embedding": lambda: [KMedoids(1, 1, 16, cluster_embedding=True)],
    "kmedoids all tokens": lambda: [KMedoids(2, 3, 32)],
    "spectral heat": lambda: [Spectral(2, 3, 7, sigma=6.0)],
    "spectral knn mean": lambda: [Spectral(2, 2, 11, graph="knn", sigma=6.0, aggregation="mean")],
    "spectral window": lambda: [Spectral(1, 3, 8, sigma=6.0, window=(3, 3, 3), normalize=True)],
    "sparse": lambda: [SparseSampling(2, 3, 7)],
    "sparse embedding": lambda: [SparseSampling(2, 3, 7, cluster_embedding=True)],
    "pooling": lambda: [SegmentPooling(2, 3)],
    "pooling clusters": lambda: [SegmentPooling(0, 2, clusters=16)],
    "temporal shift": lambda: [TemporalShift()],
    "token shift": lambda: [TokenShift()],
    "two stages": lambda: [KMedoids(1, 3, 12), KMedoids(3, 1, 4)],
    "shift and clustering": lambda: [TokenShift(), KMedoids(2, 3, 7)],
    "pooling, then sampling": lambda: [SegmentPooling(1, 3), TemporalShift(), SparseSampling(3, 3, 5)],
}
every_example = pytest.mark.parametrize("make", EXAMPLES.values(), ids=EXAMPLES.keys())


@pytest.fixture
def vision() -> CLIPVisionModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=BLOCKS,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    model = CLIPVisionModel(config)
    with torch.no_grad():  # as initialised, blocks change hardly anything, and tokens of a picture are nearly equal
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture
def pixels() -> Tensor:
    """Of 3 videos."""
    return torch.randn(3 * FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def embed(vision: CLIPVisionModel, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return vision(pixel_values=pixels).last_hidden_state


def by_hand(vision: CLIPVisionModel, pixels: Tensor, reducers: list[Reducer]) -> Tensor:
    """The transformer written out, without hooks: blocks from their parts, shifts where they belong."""
    states, frames = vision.pre_layrnorm(vision.embeddings(pixels)), FRAMES
    for number, block in enumerate(vision.encoder.layers):
        for reducer in reducers:
            if isinstance(reducer, SegmentReducer) and reducer.after_block == number:
                states, frames = reducer(states, frames), reducer.segments
            elif not isinstance(reducer, SegmentReducer):
                states = reducer(states, frames)
        states = states + block.self_attn(block.layer_norm1(states), None)[0]
        for reducer in reducers:
            if isinstance(reducer, TokenShift):
                states = reducer(states, frames)
        states = states + block.mlp(block.layer_norm2(states))
    return states


def test_every_reducer_has_an_example() -> None:
    ours = {name for name, kind in registered_reducers().items() if kind.__module__.startswith("centerclip_pl.")}
    assert ours == {type(reducer).__name__ for make in EXAMPLES.values() for reducer in make()}
    assert {"KMedoids", "Spectral", "SegmentPooling", "SparseSampling", "TemporalShift", "TokenShift"} <= ours


@every_example
def test_shapes_are_those_of_the_plan(
    make: Callable[[], list[Reducer]], vision: CLIPVisionModel, pixels: Tensor
) -> None:
    segments, patches = check_plan(make(), FRAMES, PATCHES, BLOCKS)
    with attach(vision, make(), FRAMES) as attachment:
        found = embed(vision, pixels)
    assert found.shape == (3 * segments, 1 + patches, WIDTH)
    assert attachment.segments == segments


@every_example
def test_hooks_do_what_the_transformer_written_out_does(
    make: Callable[[], list[Reducer]], vision: CLIPVisionModel, pixels: Tensor
) -> None:
    reducers = [reducer.eval() for reducer in make()]
    with attach(vision, reducers, FRAMES):
        found = embed(vision, pixels)
    with torch.no_grad():
        torch.testing.assert_close(found, by_hand(vision, pixels, reducers), rtol=1e-4, atol=1e-5)


@every_example
def test_videos_do_not_mix(make: Callable[[], list[Reducer]], vision: CLIPVisionModel, pixels: Tensor) -> None:
    """Each video alone, and in another order, gives what it gives among others."""
    with attach(vision, [reducer.eval() for reducer in make()], FRAMES) as attachment:
        together = embed(vision, pixels).unflatten(0, (3, attachment.segments))
        turned = embed(vision, pixels.unflatten(0, (3, FRAMES)).flip(0).flatten(0, 1))
        torch.testing.assert_close(turned.unflatten(0, (3, attachment.segments)).flip(0), together)
        for video, frames in enumerate(pixels.split(FRAMES)):
            torch.testing.assert_close(embed(vision, frames), together[video])


@every_example
def test_runs_repeat_and_removing_leaves_nothing(
    make: Callable[[], list[Reducer]], vision: CLIPVisionModel, pixels: Tensor
) -> None:
    before = embed(vision, pixels)
    reducers = [reducer.eval() for reducer in make()]
    attachment = attach(vision, reducers, FRAMES)
    once = embed(vision, pixels)
    assert torch.equal(embed(vision, pixels), once)
    attachment = attach(vision, reducers, FRAMES)  # again: as once
    assert torch.equal(embed(vision, pixels), once)
    attachment.remove()
    assert torch.equal(embed(vision, pixels), before)


@every_example
def test_copies_and_pickles(make: Callable[[], list[Reducer]], vision: CLIPVisionModel, pixels: Tensor) -> None:
    attach(vision, [reducer.eval() for reducer in make()], FRAMES)
    expected = embed(vision, pixels)
    assert torch.equal(embed(pickle.loads(pickle.dumps(vision)), pixels), expected)
    assert torch.equal(embed(copy.deepcopy(vision), pixels), expected)


@every_example
def test_options_build_the_same_reducer(make: Callable[[], list[Reducer]]) -> None:
    for reducer in make():
        again = registered_reducers()[type(reducer).__name__](**reducer.options())
        assert type(again) is type(reducer)
        assert again.options() == reducer.options()
        assert all(f"{name}={value!r}" in repr(reducer) for name, value in reducer.options().items())


@every_example
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_stay(make: Callable[[], list[Reducer]], dtype: torch.dtype) -> None:
    frames, patches = FRAMES, PATCHES
    tokens = torch.randn(2 * frames, 1 + patches, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    reducer = make()[0].to(dtype)
    reducer.prepare(torch.zeros(1 + patches, WIDTH, dtype=dtype))
    found = reducer(tokens, frames)
    segments, kept = reducer.shape_out(frames, patches)
    assert found.dtype == dtype
    assert found.shape == (2 * segments, 1 + kept, WIDTH)
    assert torch.isfinite(found).all()


@every_example
def test_no_videos_are_no_segments(make: Callable[[], list[Reducer]]) -> None:
    tokens, frames = torch.zeros(0, 1 + PATCHES, WIDTH, requires_grad=True), FRAMES
    for training in (False, True):
        reducer = make()[0].train(training)
        reducer.prepare(torch.zeros(1 + PATCHES, WIDTH))
        found = reducer(tokens, frames)
        assert found.shape == (0, 1 + reducer.shape_out(frames, PATCHES)[1], WIDTH)
        found.sum().backward()


@every_example
def test_autocast_and_inference_mode(
    make: Callable[[], list[Reducer]], vision: CLIPVisionModel, pixels: Tensor
) -> None:
    attach(vision, [reducer.eval() for reducer in make()], FRAMES)
    plain = embed(vision, pixels)
    with torch.inference_mode():
        assert torch.equal(vision(pixel_values=pixels).last_hidden_state, plain)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = embed(vision, pixels)
    assert mixed.shape == plain.shape
    assert torch.isfinite(mixed).all()


@pytest.mark.parametrize(
    "name", ["kmedoids mean", "spectral window", "sparse embedding", "pooling, then sampling", "shift and clustering"]
)
def test_compilation(name: str, vision: CLIPVisionModel, pixels: Tensor) -> None:
    """Some of the examples, each kind of reducer among them: compiling takes a second or more."""
    attach(vision, [reducer.eval() for reducer in EXAMPLES[name]()], FRAMES)
    plain = embed(vision, pixels)
    torch.compiler.reset()  # torch does not notice that other hooks were attached than to an earlier model
    compiled = torch.compile(vision, backend="eager")
    torch.testing.assert_close(embed(compiled, pixels), plain)  # type: ignore[arg-type]


@every_example
def test_recomputed_activations_give_the_same_gradients(
    make: Callable[[], list[Reducer]], vision: CLIPVisionModel, pixels: Tensor
) -> None:
    """In training, so that sampling draws: the same seed, and the same again in the second forward pass."""
    gradients = []
    for recompute in (False, True):
        model = copy.deepcopy(vision).train()
        attach(model, make(), FRAMES)
        if recompute:
            recompute_activations(model)
        torch.manual_seed(5)
        model(pixel_values=pixels).last_hidden_state.square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) > 60
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@every_example
def test_gradients_reach_the_tokens_that_count(make: Callable[[], list[Reducer]]) -> None:
    reducer = make()[0].eval()
    reducer.prepare(torch.randn(1 + PATCHES, WIDTH))
    tokens = torch.randn(2 * FRAMES, 1 + PATCHES, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reducer(tokens, FRAMES).sum().backward()
    assert tokens.grad is not None
    reached = (tokens.grad != 0).any(dim=-1)  # (2*FRAMES, 1 + PATCHES)
    assert reached[:, 0].all()  # CLS always
    means = isinstance(reducer, TokenClustering) and reducer.aggregation == "mean"
    if isinstance(reducer, TokenSelection) and not means:
        each = FRAMES // reducer.segments
        patches = tokens.detach()[:, 1:].reshape(2 * reducer.segments, each * PATCHES, WIDTH)
        chosen = torch.zeros(patches.shape[:2], dtype=torch.bool)
        chosen.scatter_(1, reducer.select(patches, each), True)
        assert torch.equal(reached[:, 1:].reshape(chosen.shape), chosen)
        assert torch.equal(tokens.grad[:, 1:][reached[:, 1:]], torch.ones(int(chosen.sum()), WIDTH))
    else:
        assert reached.all()
    if isinstance(reducer, TokenSelection) and reducer.cluster_embedding:
        assert reducer.embedding is not None
        assert torch.equal(reducer.embedding.grad, torch.full_like(reducer.embedding, 2.0 * reducer.segments))


@every_example
def test_selected_tokens_are_real_and_in_order(make: Callable[[], list[Reducer]]) -> None:
    for training in (False, True):
        reducer = make()[0].train(training)
        if not isinstance(reducer, TokenSelection) or reducer.cluster_embedding:
            return
        each = FRAMES // reducer.segments
        tokens = torch.randn(2 * FRAMES, 1 + PATCHES, WIDTH, generator=torch.Generator().manual_seed(3))
        patches = tokens[:, 1:].reshape(2 * reducer.segments, each * PATCHES, WIDTH)
        torch.manual_seed(1)
        indices = reducer.select(patches, each)
        assert (indices.diff(dim=1) > 0).all()
        torch.manual_seed(1)
        found = reducer(tokens, FRAMES)
        cls = tokens[:, 0].unflatten(0, (-1, each)).mean(dim=1)
        torch.testing.assert_close(found[:, 0], cls)
        if not (isinstance(reducer, TokenClustering) and reducer.aggregation == "mean"):
            for group in range(len(patches)):
                assert torch.equal(found[group, 1:], patches[group][indices[group]])


@pytest.mark.parametrize(
    "reducer", [KMedoids(0, 3, 4), Spectral(0, 3, 4), Spectral(0, 3, 4, graph="knn")], ids=lambda r: type(r).__name__
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_clustering_refuses_non_finite_tokens(reducer: Reducer, bad: float) -> None:
    tokens = torch.randn(2 * FRAMES, 1 + PATCHES, 4)
    tokens[4, 5, 2] = bad
    with pytest.raises(NonFiniteError, match="token 4 of sample 2"):
        reducer(tokens, FRAMES)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: KMedoids(-1, 3, 4), "after_block"),
        (lambda: SparseSampling(1, 0, 4), "segments"),
        (lambda: Spectral(1, 3, 0), "clusters"),
        (lambda: Spectral(1, 3, 4, graph="tree"), "graph"),  # type: ignore[arg-type]
        (lambda: Spectral(1, 3, 4, sigma=0.0), "sigma"),
        (lambda: Spectral(1, 3, 4, sigma=float("nan")), "sigma"),
        (lambda: Spectral(1, 3, 4, neighbours=0), "neighbours"),
        (lambda: Spectral(1, 3, 4, window=(3, 4, 3)), "window"),
        (lambda: Spectral(1, 3, 4, aggregation="median"), "aggregation"),  # type: ignore[arg-type]
        (lambda: Spectral(1, 3, 4, max_iterations=-1), "max_iterations"),
        (lambda: check_plan([SparseSampling(1, 4, 4)], FRAMES, PATCHES, BLOCKS), "6 frames .* 4 segments"),
        (lambda: check_plan([SparseSampling(1, 6, 17)], FRAMES, PATCHES, BLOCKS), "clusters is 17.*only 16"),
        (lambda: check_plan([Spectral(4, 3, 4)], FRAMES, PATCHES, BLOCKS), "after_block is 4.*4 blocks"),
        (lambda: check_plan([SegmentPooling(1, 3, 9)], FRAMES, PATCHES, BLOCKS), "clusters is 9.*all 16"),
        (lambda: check_plan([TokenShift()], 1, PATCHES, BLOCKS), "TokenShift.*only one frame"),
        (
            lambda: check_plan([KMedoids(1, 3, 7), Spectral(2, 3, 4, window=(1, 3, 3))], FRAMES, PATCHES, BLOCKS),
            "window needs whole frames, but 7",
        ),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        make()


def test_an_embedding_has_to_be_prepared() -> None:
    reducer = KMedoids(0, 3, 4, cluster_embedding=True)
    with pytest.raises(ConfigError, match="cluster embedding was not made"):
        reducer(torch.randn(FRAMES, 1 + PATCHES, 8), FRAMES)


@pytest.mark.parametrize("clusters", [1, 7, 16, 20])
def test_an_embedding_starts_from_the_positions(clusters: int) -> None:
    positions = torch.randn(1 + PATCHES, 8, generator=torch.Generator().manual_seed(0))
    reducer = KMedoids(0, 1, clusters, cluster_embedding=True)
    reducer.prepare(positions)
    assert reducer.embedding is not None
    made = reducer.embedding.detach()
    assert made.shape == (clusters, 8)
    for k in range(clusters):
        place = k * (PATCHES - 1) / (clusters - 1) if clusters > 1 else 0.0
        low, share = int(place + 1e-9), place - int(place + 1e-9)
        expected = positions[1 + low] * (1 - share) + positions[1 + min(low + 1, PATCHES - 1)] * share
        torch.testing.assert_close(made[k], expected, rtol=1e-4, atol=1e-5)
    reducer.prepare(torch.zeros(1 + PATCHES, 8))  # a second time: what is there stays
    assert torch.equal(reducer.embedding.detach(), made)


def test_the_page_on_reducers_is_right(vision: CLIPVisionModel, pixels: Tensor) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reducers.md").read_text()
    names: dict[str, Any] = {"__name__": "docs"}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/reducers.md", "exec"), names)
    kind = names["LargestNorm"]
    assert registered_reducers()["LargestNorm"] is kind
    with attach(vision, [kind(2, 3, 7)], FRAMES):
        assert embed(vision, pixels).shape == (9, 8, WIDTH)
    for name, ours in registered_reducers().items():  # other tests make reducers of their own
        assert f"`{name}`" in page or not ours.__module__.startswith("centerclip_pl.")
