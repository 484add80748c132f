"""A batch that is embedded in chunks has the loss and the gradients of the whole batch, with the memory of a chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig

from benchmarks.memory import peak_memory
from centerclip_pl import TextVideoRetrieval
from centerclip_pl.draws import Rows, drawing_for
from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import KMedoids, Reducer, SegmentPooling, SparseSampling, Spectral, TemporalShift
from centerclip_pl.types import Batch

HEADS = ("meanP", "seqLSTM", "seqTransf", "tightTransf")
REDUCERS: dict[str, Callable[[], Reducer | list[Reducer] | None]] = {
    "none": lambda: None,
    "KMedoids": lambda: KMedoids(1, 2, 3, cluster_embedding=True),
    "Spectral": lambda: Spectral(1, 2, 3, sigma=4.0),
    "SparseSampling": lambda: SparseSampling(0, 2, 3),
    "SegmentPooling": lambda: SegmentPooling(1, 2),
    "TemporalShift": TemporalShift,
}
STEP = Rows((7, 1, 3))


def config(width: int = 16, dropout: float = 0.0) -> CLIPConfig:
    tower = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "attention_dropout": dropout,
    }
    text = {"vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 18, "eos_token_id": 19}
    return CLIPConfig(
        text_config=tower | text, vision_config=tower | {"image_size": 16, "patch_size": 8}, projection_dim=width
    )


def batch(videos: int = 7, frames: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.arange(videos)
    words = torch.randint(0, 18, (videos, 6), generator=generator)
    mask = torch.ones(videos, frames, dtype=torch.bool)
    mask[1, -1] = False
    return Batch(
        frames=torch.randint(0, 256, (videos, frames, 3, 16, 16), generator=generator, dtype=torch.uint8),
        frame_mask=mask,
        video_ids=ids,
        input_ids=words,
        attention_mask=torch.ones_like(words),
        text_ids=ids,
        video_of_text=ids,
    )


def module(**options: Any) -> TextVideoRetrieval:
    torch.manual_seed(0)
    made = TextVideoRetrieval(options.pop("config", None) or config(), num_frames=4, **options)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name != "logit_scale":
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def loss_and_gradients(
    made: TextVideoRetrieval, data: Batch, autocast: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    made.zero_grad()
    torch.manual_seed(5)
    with drawing_for(STEP), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = made.batch_loss(data)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(value.norm()) for value in expected.values())
    for name, value in expected.items():
        off = float((found[name] - value).norm())
        # Some gradients are nothing but rounding: that of a key's bias, which no softmax sees.
        assert off <= tolerance * float(value.norm()) + 1e-2 * tolerance * largest, name


@pytest.mark.parametrize(
    ("head", "reducer", "patch"),
    [(head, "KMedoids", "2d") for head in HEADS]
    + [("meanP", reducer, "2d") for reducer in REDUCERS if reducer != "KMedoids"]
    + [("tightTransf", "SparseSampling", "3d")],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_of_the_whole_batch(head: str, reducer: str, patch: str, checkpointing: bool) -> None:
    options: dict[str, Any] = {"head": head, "patch": patch, "gradient_checkpointing": checkpointing}
    data = batch()
    # Float64, so that nothing but a mistake is larger than the tolerance. tightTransf drops out, here too.
    made = module(reduction=REDUCERS[reducer](), **options).double().train()
    loss, gradients = loss_and_gradients(made, data)
    for chunk in (1, 3, 100):
        cached = module(reduction=REDUCERS[reducer](), grad_cache=chunk, **options).double().train()
        cached.load_state_dict(made.state_dict())
        found, of_chunks = loss_and_gradients(cached, data)
        assert float(found) == pytest.approx(float(loss), rel=1e-12)
        assert_same(of_chunks, gradients, 1e-9)


@pytest.mark.parametrize("head", HEADS)
def test_in_single_precision(head: str) -> None:
    made = module(reduction=KMedoids(1, 2, 3), head=head)
    loss, gradients = loss_and_gradients(made, batch())
    made.grad_cache, made.similarity_head.recompute = 2, True
    found, of_chunks = loss_and_gradients(made, batch())
    assert float(found) == pytest.approx(float(loss), rel=1e-6)
    # That of the score's bias, which shifts all scores alike, is nothing but rounding.
    assert_same(of_chunks, gradients, 1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_under_autocast(head: str) -> None:
    """The gradients of bfloat16's products are rounded to 8 bits, once in the whole batch, once a chunk here."""
    made = module(reduction=KMedoids(1, 2, 3), head=head)
    exact = loss_and_gradients(made, batch())[1]
    loss, gradients = loss_and_gradients(made, batch(), autocast=True)
    made.grad_cache, made.similarity_head.recompute = 1, True
    found, of_chunks = loss_and_gradients(made, batch(), autocast=True)
    assert float(found) == pytest.approx(float(loss), rel=1e-6)

    def off(those: dict[str, Tensor]) -> float:
        return sum(float((those[name] - value).square().sum()) for name, value in exact.items()) ** 0.5

    assert of_chunks.keys() == gradients.keys()
    assert off(of_chunks) < 1.2 * off(gradients)


def test_dropout_is_the_same_in_both_passes() -> None:
    """Against the same chunks with all their activations kept: what torch's generators draw is drawn again."""
    made = module(config=config(dropout=0.3), reduction=KMedoids(1, 2, 3), grad_cache=2).double().train()
    data = batch()
    loss, gradients = loss_and_gradients(made, data)

    def kept(function: Any, *args: Any, **_: Any) -> Any:
        return function(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("centerclip_pl.training.grad_cache.checkpoint", kept)
        expected_loss, expected = loss_and_gradients(made, data)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-12)
    assert_same(gradients, expected, 1e-9)
    made.eval()
    assert float(loss_and_gradients(made, data)[0]) != pytest.approx(float(loss), rel=1e-6)


def test_memory_is_that_of_a_chunk() -> None:
    data, wide = batch(24), config(64)
    peaks = {}
    for chunk in (None, 12, 3):
        made = module(config=wide, head="tightTransf", grad_cache=chunk)
        made.similarity_head.pairs_at_a_time = 24
        loss_and_gradients(made, data)
        peaks[chunk] = peak_memory(lambda made=made: loss_and_gradients(made, data))
    assert peaks[12] < 0.6 * peaks[None]
    assert peaks[3] < 0.7 * peaks[12]  # of which the gradients of the parameters are a part


def test_evaluation_is_not_chunked() -> None:
    made = module(grad_cache=1).eval()
    with torch.no_grad():
        assert made.batch_loss(batch()).isfinite()


def test_a_chunk_holds_something() -> None:
    with pytest.raises(ConfigError, match="grad_cache is 0"):
        module(grad_cache=0)
