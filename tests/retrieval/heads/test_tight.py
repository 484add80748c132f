"""tightTransf against its definition, one pair at a time; chunks of pairs; dropout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTextModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval import TightTransformer, make_head
from centerclip_pl.types import VideoEmbedding

Inputs = tuple[Tensor, VideoEmbedding, Tensor]
SlowTransformer = Callable[[TightTransformer, Tensor], Tensor]


@pytest.fixture
def head(text_model: CLIPTextModel) -> TightTransformer:
    made = make_head("tightTransf", text_model, text_model.config.hidden_size)
    assert isinstance(made, TightTransformer)
    with torch.no_grad():
        for parameter in [*made.norm.parameters(), *made.dense.parameters(), *made.score.parameters()]:
            parameter.add_(torch.randn_like(parameter))  # as they start, they hardly matter
    return made.eval()


@torch.no_grad()
def slow_score(head: TightTransformer, text: Tensor, frames: Tensor, mask: Tensor, blocks: SlowTransformer) -> Tensor:
    """Text ``[D]``, frames ``[S, D]``, mask ``[S]`` -> scalar."""
    sequence = torch.cat([text[None], frames]) + head.positions.weight[: 1 + len(frames)]
    first = blocks(head, sequence[torch.cat([torch.tensor([True]), mask])])[0]
    first = F.layer_norm(first, first.shape, head.norm.weight, head.norm.bias, eps=1e-12)
    hidden = head.dense.weight @ first + head.dense.bias
    hidden = hidden * torch.sigmoid(1.702 * hidden)
    return head.score.weight[0] @ hidden + head.score.bias[0]


@pytest.mark.parametrize("size", [1.0, 1e-3])  # small tokens tell which epsilon the layer norms have
def test_each_pair_is_scored(
    size: float, head: TightTransformer, inputs: Inputs, slow_transformer: SlowTransformer
) -> None:
    text, video, scale = inputs
    text, video = text * size, VideoEmbedding(video.segments * size, video.mask)
    with torch.no_grad():
        head.positions.weight.mul_(size)
    expected = [[slow_score(head, t, *v, slow_transformer) for v in zip(*video, strict=True)] for t in text]
    logits = head(text, video, scale)
    torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-4, rtol=1e-4)
    assert logits.std() > 0.1
    assert logits.equal(head(text, video, scale + 1))


@pytest.mark.parametrize("pairs", [1, 4, 6, 7, 17, 18, 19])
def test_chunks_change_nothing(pairs: int, head: TightTransformer, inputs: Inputs) -> None:
    text, video, scale = inputs
    text.requires_grad_()
    outcome = []
    for head.pairs_at_a_time in (1024, pairs):
        logits = head(text, video, scale)
        gradients = torch.autograd.grad(logits.square().sum(), [text, *head.parameters()])
        outcome.append([logits, *gradients])
    for whole, chunked in zip(*outcome, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-4, rtol=1e-4)


def test_never_more_pairs_than_asked_for(head: TightTransformer, inputs: Inputs) -> None:
    seen = []
    head.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    for pairs, batches in ((13, [12, 6]), (7, [6] * 3), (4, [4, 2] * 3)):  # whole rows; a row; parts of a row
        head.pairs_at_a_time = pairs
        head(*inputs)
        assert seen == [(count, 6, 16) for count in batches]  # 3 texts x 6 videos; a text and 5 segments
        seen.clear()


def test_dropout_is_for_training(head: TightTransformer, inputs: Inputs) -> None:
    assert head.dropout.p == 0.1
    assert head(*inputs).equal(head(*inputs))
    head.train()
    assert not head(*inputs).equal(head(*inputs))
    head.dropout.p = 0.0
    trained = head(*inputs)
    assert trained.equal(head.eval()(*inputs))


def test_pairs_do_not_share_dropout(head: TightTransformer, inputs: Inputs) -> None:
    """The same text and video twice give four scores."""
    text, video, scale = inputs
    twice = VideoEmbedding(*(tensor[:1].repeat_interleave(2, dim=0) for tensor in video))
    logits = head.train()(text[:1].repeat(2, 1), twice, scale)
    assert len(logits.unique()) == 4


def test_text_takes_a_position(head: TightTransformer, inputs: Inputs) -> None:
    text, _, scale = inputs
    longest = VideoEmbedding(torch.randn(2, 6, 16), torch.ones(2, 6))
    assert head(text, longest, scale).shape == (3, 2)
    with pytest.raises(ConfigError, match="has 7 positions, but a video needs 8"):
        head(text, VideoEmbedding(torch.randn(2, 7, 16), torch.ones(2, 7)), scale)


@pytest.mark.parametrize("options", [{"pairs_at_a_time": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        TightTransformer(16, **options)  # type: ignore[arg-type]
