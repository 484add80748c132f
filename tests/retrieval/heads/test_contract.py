"""What every head keeps to, whatever it computes."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextModel

from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.retrieval import HEADS, Head, SequentialLSTM, SequentialTransformer, TightTransformer, make_head
from centerclip_pl.types import VideoEmbedding

Inputs = tuple[Tensor, VideoEmbedding, Tensor]


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest, text_model: CLIPTextModel) -> Head:
    torch.manual_seed(2)
    made = make_head(request.param, text_model, text_model.config.hidden_size).eval()
    if isinstance(made, TightTransformer):  # its scores begin near zero
        with torch.no_grad():
            made.score.weight.mul_(50)
            made.dense.weight.mul_(50)
    return made


def test_each_text_and_video_by_itself(head: Head, inputs: Inputs) -> None:
    """So a padded batch is as good as videos one by one."""
    text, video, scale = inputs
    logits = head(text, video, scale)
    assert logits.dtype == torch.float32
    for row in range(len(text)):
        for column in range(len(video.mask)):
            alone = VideoEmbedding(*(tensor[column : column + 1] for tensor in video))
            expected = head(text[row : row + 1], alone, scale)
            torch.testing.assert_close(logits[row : row + 1, column : column + 1], expected, atol=1e-4, rtol=1e-4)


def test_longer_padding_changes_nothing(head: Head, inputs: Inputs) -> None:
    text, video, scale = inputs
    longer = VideoEmbedding(*(torch.cat([t, torch.ones_like(t[:, :1])], dim=1) for t in video))
    longer.mask[:, -1] = False
    torch.testing.assert_close(head(text, longer, scale), head(text, video, scale), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("content", [math.nan, math.inf, 1e30])
def test_masked_segments_may_hold_anything(content: float, head: Head, inputs: Inputs) -> None:
    text, video, scale = inputs
    expected = head(text, video, scale)
    spoilt = video.segments.masked_fill(~video.mask[..., None], content).requires_grad_()
    text.requires_grad_()
    logits = head(text, VideoEmbedding(spoilt, video.mask.long()), scale)  # an int mask does as well
    assert logits.equal(expected)
    logits.square().sum().backward()
    assert text.grad is not None
    assert spoilt.grad is not None
    assert text.grad.isfinite().all()
    assert (spoilt.grad[~video.mask] == 0).all()
    assert (spoilt.grad[video.mask] != 0).any(dim=1).all()
    assert spoilt.grad.isfinite().all()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", HEADS)
def test_gradients_by_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"layers": 2, "heads": 2, "positions": 4}
    tiny: Head = HEADS[name](4, **options) if name.endswith("Transf") else HEADS[name](*[4][: name != "meanP"])
    tiny = tiny.double().eval()
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    names, parameters = [n for n, _ in tiny.named_parameters()], list(tiny.parameters())
    mask = torch.tensor([[True, True, False], [False, True, True]])

    def logits(text: Tensor, segments: Tensor, scale: Tensor, *weights: Tensor) -> Tensor:
        arguments = (text, VideoEmbedding(segments, mask), scale)
        return torch.func.functional_call(tiny, dict(zip(names, weights, strict=True)), arguments)

    random = {"dtype": torch.float64, "requires_grad": True}
    text, segments = torch.randn(2, 4, **random), torch.randn(2, 3, 4, **random)
    assert torch.autograd.gradcheck(logits, (text, segments, torch.tensor(0.7, **random), *parameters))


@torch.no_grad()
def test_float64_is_computed_in_float64(head: Head, inputs: Inputs) -> None:
    """Nothing passes through float32: changes far below its precision show, in proportion."""
    text, video, scale = inputs
    single = head(text, video, scale)
    head.double()

    def logits(change: float) -> Tensor:
        factors = 1 + change * torch.arange(16, dtype=torch.float64)
        return head(text.double(), VideoEmbedding(video.segments.double() * factors, video.mask), scale.double())

    double = logits(0.0)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-4, rtol=1e-4)
    small, large = logits(1e-10) - double, logits(1e-8) - double
    assert small.abs().max() > 1e-11
    torch.testing.assert_close(small * 100, large, atol=1e-3 * float(large.abs().max()), rtol=0)


def test_autocast_keeps_scores_in_float32(head: Head, inputs: Inputs) -> None:
    text, video, scale = inputs
    expected = head(text, video, scale)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(text, video, scale)
        coarse = head(text.bfloat16(), VideoEmbedding(video.segments.bfloat16(), video.mask), scale)
    assert logits.dtype == coarse.dtype == torch.float32
    assert (logits != logits.bfloat16()).any()
    spread = float(expected.detach().std())
    for found in (logits, coarse):
        assert (found - expected).abs().max() < 0.25 * spread
    for parameter in head.parameters():
        (gradient,) = torch.autograd.grad(logits.sum(), parameter, retain_graph=True)
        assert gradient.dtype == torch.float32
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits(dtype: torch.dtype, head: Head, inputs: Inputs) -> None:
    """As with Lightning's "bf16-true"; evaluation then asks with float32 embeddings."""
    text, video, scale = inputs
    expected = head(text, video, scale)
    logits = copy.deepcopy(head).to(dtype)(text, video, scale)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.25 * expected.std()


@pytest.mark.parametrize(("texts", "videos"), [(0, 2), (2, 0), (0, 0)])
def test_nothing_to_score(texts: int, videos: int, head: Head, inputs: Inputs) -> None:
    text, video, scale = inputs
    logits = head(text[:texts], VideoEmbedding(*(tensor[:videos] for tensor in video)), scale)
    assert logits.shape == (texts, videos)
    assert logits.dtype == torch.float32


def test_copies_are_the_same(head: Head, inputs: Inputs, text_model: CLIPTextModel) -> None:
    expected = head(*inputs)
    assert copy.deepcopy(head)(*inputs).equal(expected)
    assert pickle.loads(pickle.dumps(head))(*inputs).equal(expected)
    name = next(name for name, kind in HEADS.items() if kind is type(head))
    with torch.no_grad():
        for parameter in text_model.parameters():
            parameter.normal_()
    again = make_head(name, text_model, text_model.config.hidden_size).eval()
    again.load_state_dict(head.state_dict())
    assert again(*inputs).equal(expected)


@pytest.mark.parametrize("kind", [SequentialTransformer, TightTransformer])
def test_both_attention_implementations(kind: type[Head], text_model: CLIPTextModel, inputs: Inputs) -> None:
    outcome = []
    for attention in ("sdpa", "eager"):
        text_model.set_attn_implementation(attention)
        torch.manual_seed(0)
        head = kind.from_clip(text_model, text_model.config.hidden_size).eval()
        assert head.blocks[0].self_attn.config._attn_implementation == attention  # type: ignore[union-attr,index]
        logits = head(*inputs)
        outcome.append([logits, *torch.autograd.grad(logits.square().sum(), list(head.parameters()))])
    for fused, plain in zip(*outcome, strict=True):
        torch.testing.assert_close(plain, fused, atol=1e-4, rtol=1e-4)


def test_logit_scale_learns_where_it_is_used(head: Head, inputs: Inputs) -> None:
    text, video, scale = inputs
    logits = head(text, video, scale.requires_grad_())
    if isinstance(head, TightTransformer):
        logits.sum().backward()
        assert scale.grad is None
    else:
        torch.testing.assert_close(torch.autograd.grad(logits.sum(), scale)[0], logits.sum().detach())


def test_what_training_and_evaluation_must_know(head: Head) -> None:
    assert head.pairwise == isinstance(head, TightTransformer)


def test_a_video_without_segments_is_refused(head: Head, inputs: Inputs) -> None:
    text, video, scale = inputs
    video.mask[4] = False
    with pytest.raises(NonFiniteError, match="video 4 of the batch has no segment that counts"):
        head(text, video, scale)


@pytest.mark.parametrize(
    ("text", "segments", "mask"),
    [
        ((3, 16), (2, 5, 16), (2, 4)),
        ((3, 16), (2, 16), (2,)),
        ((3, 12), (2, 5, 16), (2, 5)),
        ((16,), (2, 5, 16), (2, 5)),
        ((3, 16), (2, 5, 12), (2, 5)),
    ],
)
def test_shapes_are_checked(
    text: tuple[int, ...], segments: tuple[int, ...], mask: tuple[int, ...], head: Head
) -> None:
    with pytest.raises(ConfigError, match=r"do not fit|cannot be compared"):
        head(torch.ones(text), VideoEmbedding(torch.ones(segments), torch.ones(mask)), torch.tensor(1.0))


def test_more_segments_than_positions(text_model: CLIPTextModel) -> None:
    text, video, scale = torch.randn(2, 16), VideoEmbedding(torch.randn(2, 8, 16), torch.ones(2, 8)), torch.tensor(1.0)
    with pytest.raises(ConfigError, match="has 7 positions, but a video needs 8"):
        make_head("seqTransf", text_model, 16)(text, video, scale)
    for name in ("meanP", "seqLSTM"):
        assert make_head(name, text_model, 16)(text, video, scale).shape == (2, 2)


def test_seqlstm_needs_no_warning(inputs: Inputs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.deepcopy(SequentialLSTM(16))(*inputs)
