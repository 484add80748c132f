"""seqLSTM and seqTransf against their definitions, one video at a time, and against what CLIP4Clip gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel

from centerclip_pl.retrieval import SequentialLSTM, SequentialTransformer, cosine_logits, make_head
from centerclip_pl.types import VideoEmbedding

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "clip4clip"
Inputs = tuple[Tensor, VideoEmbedding, Tensor]
SlowTransformer = Callable[[SequentialTransformer, Tensor], Tensor]


def slow_lstm(head: SequentialLSTM, frames: Tensor) -> Tensor:
    """``[L, D]`` -> ``[L, D]``, gate by gate."""
    weights = dict(head.lstm.named_parameters())
    state = memory = torch.zeros_like(frames[0])
    states = []
    for frame in frames:
        gates = weights["weight_ih_l0"] @ frame + weights["bias_ih_l0"]
        gates = gates + weights["weight_hh_l0"] @ state + weights["bias_hh_l0"]
        write, keep, new, show = gates.chunk(4)
        memory = keep.sigmoid() * memory + write.sigmoid() * new.tanh()
        state = show.sigmoid() * memory.tanh()
        states.append(state)
    return torch.stack(states)


def slow_logits(text: Tensor, videos: list[Tensor], scale: Tensor) -> Tensor:
    """Texts ``[Q, D]``; of each video what counts ``[L, D]``."""
    pooled = torch.stack([F.normalize(F.normalize(frames, dim=1).mean(0), dim=0) for frames in videos])
    return F.normalize(text, dim=1) @ pooled.T * math.exp(scale)


@torch.no_grad()
def test_lstm_runs_over_what_counts(text_model: CLIPTextModel, inputs: Inputs) -> None:
    text, video, scale = inputs
    head = make_head("seqLSTM", text_model, text.shape[1])
    assert isinstance(head, SequentialLSTM)
    counted = [segments[mask] for segments, mask in zip(*video, strict=True)]
    expected = slow_logits(text, [frames + slow_lstm(head, frames) for frames in counted], scale)
    torch.testing.assert_close(head(text, video, scale), expected)
    assert (expected - cosine_logits(text, video, scale)).abs().max() > 0.1  # the LSTM is no bystander


@torch.no_grad()
@pytest.mark.parametrize("size", [1.0, 1e-3])  # small tokens tell which epsilon the layer norms have
def test_transformer_sees_what_counts(
    size: float, text_model: CLIPTextModel, inputs: Inputs, slow_transformer: SlowTransformer
) -> None:
    text, video, scale = inputs
    video = VideoEmbedding(video.segments * size, video.mask)
    head = make_head("seqTransf", text_model, text.shape[1])
    assert isinstance(head, SequentialTransformer)
    head.positions.weight.mul_(size)
    expected = []
    for segments, mask in zip(*video, strict=True):
        placed = segments + head.positions.weight[: len(segments)]
        expected.append(segments[mask] + slow_transformer(head, placed[mask]))
    torch.testing.assert_close(head(text, video, scale), slow_logits(text, expected, scale), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "ordered"), [("meanP", False), ("seqLSTM", True), ("seqTransf", True)])
def test_order_of_segments(name: str, ordered: bool, text_model: CLIPTextModel, inputs: Inputs) -> None:
    text, video, scale = inputs
    head = make_head(name, text_model, text.shape[1])
    whole = VideoEmbedding(video.segments, torch.ones_like(video.mask))
    backwards = VideoEmbedding(whole.segments.flip(1), whole.mask)
    difference = (head(text, whole, scale) - head(text, backwards, scale)).abs().max()
    assert difference > 1e-2 if ordered else difference < 1e-5


@torch.no_grad()
@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the recordings of the published CLIP4Clip are not at {GOLDEN}")
@pytest.mark.parametrize("batch", ["full", "padded"])
def test_lstm_against_published(batch: str) -> None:
    """The recorded ``video`` is what goes into the LSTM: the recording of meanP holds the same."""
    weights = torch.load(GOLDEN / "seqLSTM.pytorch_model.bin.0", map_location="cpu", weights_only=True)
    recorded = load_file(GOLDEN / "seqLSTM.safetensors")
    mask = load_file(GOLDEN / "inputs.safetensors")[f"{batch}.frame_mask"]
    assert (mask == 0).any() == (batch == "padded")
    prefix = "lstm_visual."
    head = SequentialLSTM(128)
    head.lstm.load_state_dict({k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)})
    video = VideoEmbedding(recorded[f"{batch}.video"], mask)
    logits = head(recorded[f"{batch}.text"], video, weights["clip.logit_scale"])
    expected = recorded[f"{batch}.logits"]
    assert (logits - expected).norm() / expected.norm() < 1e-5
