import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import KMedoids, Reducer, TokenShift, attach, check_plan, encoder_blocks


@pytest.fixture
def vision() -> CLIPVisionModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    return CLIPVisionModel(config).eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2 * 6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def embed(vision: CLIPVisionModel, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vision(pixel_values=pixels).pooler_output


def by_hand(vision: CLIPVisionModel, pixels: torch.Tensor, reducers: list[KMedoids], frames: int) -> torch.Tensor:
    """The transformer block by block, reducing between them: no hooks."""
    with torch.no_grad():
        states = vision.pre_layrnorm(vision.embeddings(pixels))
        for number, block in enumerate(vision.encoder.layers):
            for reducer in reducers:
                if reducer.after_block == number:
                    states, frames = reducer(states, frames), reducer.segments
            states = block(states, None)
        return vision.post_layernorm(states[:, 0])


@pytest.mark.parametrize(
    "reducers",
    [
        [KMedoids(2, 3, 7)],
        [KMedoids(0, 6, 16)],
        [KMedoids(3, 1, 5, metric="cosine")],
        [KMedoids(1, 3, 12, aggregation="mean"), KMedoids(3, 1, 4)],
    ],
)
def test_hooks_do_what_a_plain_loop_does(
    vision: CLIPVisionModel, pixels: torch.Tensor, reducers: list[KMedoids]
) -> None:
    expected = by_hand(vision, pixels, reducers, 6)
    with attach(vision, reducers, 6) as attachment:
        found = embed(vision, pixels)
    assert found.shape[0] == 2 * attachment.segments == 2 * reducers[-1].segments
    torch.testing.assert_close(found, expected)


def test_removing_restores_bit_equal_output(vision: CLIPVisionModel, pixels: torch.Tensor) -> None:
    before = embed(vision, pixels)
    attachment = attach(vision, [KMedoids(2, 3, 7)], 6)
    assert embed(vision, pixels).shape[0] == 6
    attachment.remove()
    assert torch.equal(embed(vision, pixels), before)
    attachment.remove()  # again: nothing happens
    assert all(not block._forward_pre_hooks for block in encoder_blocks(vision))


def test_attaching_twice_is_attaching_once(vision: CLIPVisionModel, pixels: torch.Tensor) -> None:
    attach(vision, [KMedoids(2, 3, 7)], 6)
    once = embed(vision, pixels)
    second = attach(vision, [KMedoids(2, 3, 7)], 6)
    assert torch.equal(embed(vision, pixels), once)
    second.remove()
    assert embed(vision, pixels).shape[0] == 12


def test_a_model_with_hooks_can_be_pickled(vision: CLIPVisionModel, pixels: torch.Tensor) -> None:
    attach(vision, [KMedoids(2, 3, 7)], 6)
    expected = embed(vision, pixels)
    assert torch.equal(embed(pickle.loads(pickle.dumps(vision)), pixels), expected)


def through_pickle(vision: CLIPVisionModel) -> CLIPVisionModel:
    return pickle.loads(pickle.dumps(vision))


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
@pytest.mark.parametrize("reducer", [KMedoids(2, 3, 7), TokenShift()], ids=lambda reducer: type(reducer).__name__)
def test_attaching_to_a_copy_replaces_what_came_with_it(
    vision: CLIPVisionModel,
    pixels: torch.Tensor,
    copied: Callable[[CLIPVisionModel], CLIPVisionModel],
    reducer: Reducer,
) -> None:
    plain = embed(vision, pixels)
    attach(vision, [reducer], 6)
    once = embed(vision, pixels)
    other = copied(vision)
    attachment = attach(other, [reducer], 6)
    assert torch.equal(embed(other, pixels), once)
    attachment.remove()
    assert torch.equal(embed(other, pixels), plain)
    assert torch.equal(embed(vision, pixels), once)  # the original goes on


def test_keeping_every_token_of_single_frames_changes_nothing(vision: CLIPVisionModel, pixels: torch.Tensor) -> None:
    before = embed(vision, pixels)
    with attach(vision, [KMedoids(2, 6, 16)], 6):
        torch.testing.assert_close(embed(vision, pixels), before)


def test_gradient_checkpointing_gives_the_same_gradients(vision: CLIPVisionModel, pixels: torch.Tensor) -> None:
    plain, checkpointed = vision.train(), copy.deepcopy(vision).train()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    for model in (plain, checkpointed):
        attach(model, [KMedoids(2, 3, 7)], 6)
        model(pixel_values=pixels).pooler_output.square().sum().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        assert a.grad is not None, name
        assert b.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad)


def test_inference_mode_and_autocast(vision: CLIPVisionModel, pixels: torch.Tensor) -> None:
    with attach(vision, [KMedoids(2, 3, 7)], 6):
        plain = embed(vision, pixels)
        with torch.inference_mode():
            assert torch.equal(vision(pixel_values=pixels).pooler_output, plain)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = embed(vision, pixels)
    assert mixed.shape == plain.shape
    assert torch.isfinite(mixed).all()


def test_compiled_model_gives_the_same(vision: CLIPVisionModel, pixels: torch.Tensor) -> None:
    attach(vision, [KMedoids(2, 3, 7)], 6)
    plain = embed(vision, pixels)
    compiled = torch.compile(vision, backend="eager")  # the graph is captured; no C++ compiler needed
    with torch.no_grad():
        torch.testing.assert_close(compiled(pixel_values=pixels).pooler_output, plain)


@pytest.mark.parametrize(
    ("reducers", "says"),
    [
        ([KMedoids(2, 5, 7)], "6 frames cannot be divided into 5"),
        ([KMedoids(2, 3, 33)], "clusters is 33.*only 32 tokens"),
        ([KMedoids(4, 3, 7)], "after_block is 4.*4 blocks"),
        ([KMedoids(2, 3, 7), KMedoids(2, 1, 7)], "rising"),
        ([KMedoids(1, 3, 4), KMedoids(2, 1, 13)], "clusters is 13.*only 12 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(reducers: list[KMedoids], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_plan(reducers, frames=6, patches=16, blocks=4)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="EncoderLayer"):
        attach(nn.Linear(2, 2), [KMedoids(0, 1, 1)], 2)


@pytest.mark.parametrize(
    "options",
    [
        {"after_block": -1},
        {"segments": 0},
        {"clusters": 0},
        {"metric": "manhattan"},
        {"p": 0.0},
        {"aggregation": "median"},
        {"max_iterations": -1},
    ],
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        KMedoids(**({"after_block": 2, "segments": 3, "clusters": 4} | options))  # type: ignore[arg-type]


def test_options_build_the_same_reducer() -> None:
    reducer = KMedoids(2, 3, 7, metric="cosine", normalize=True, aggregation="mean")
    assert KMedoids(**reducer.options()).options() == reducer.options()
    assert "clusters=7" in repr(reducer)
