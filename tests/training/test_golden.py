"""The whole module against the published CenterCLIP: embeddings, logits, losses, gradient norms and weight changes.

The recordings are those that the published implementation made of a small random CLIP on a CPU. They are too large for
the repository, so these tests run only where they lie beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.tokens import KMedoids, Reducer, SegmentPooling, TokenShift

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "centerclip"
pytestmark = [
    pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the recordings of the published CenterCLIP are not at {GOLDEN}"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
]
REDUCERS: dict[str, Callable[[], Reducer | None]] = {
    "baseline_meanP": lambda: None,
    "patch3d_meanP": lambda: None,
    "kmedoids_b2_s4": lambda: KMedoids(2, 4, 16),
    "pooling": lambda: SegmentPooling(2, 4),
    "token_shift": TokenShift,
}
BLOCKS = 4


def config() -> CLIPConfig:
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": BLOCKS, "num_attention_heads": 2}
    text = {"vocab_size": 500, "max_position_embeddings": 32, "bos_token_id": 498, "eos_token_id": 499}
    return CLIPConfig(
        text_config=tower | text, vision_config=tower | {"image_size": 32, "patch_size": 8}, projection_dim=128
    )


def names() -> dict[str, str]:
    """The published name of each of our parameters; fused projections with the part that is meant behind a colon."""
    found = {
        "logit_scale": "logit_scale",
        "video.projection.weight": "visual.proj",
        "text.projection.weight": "text_projection",
        "video.vision.embeddings.class_embedding": "visual.class_embedding",
        "video.vision.embeddings.position_embedding.weight": "visual.positional_embedding",
        "video.vision.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "text.text.embeddings.token_embedding.weight": "token_embedding.weight",
        "text.text.embeddings.position_embedding.weight": "positional_embedding",
    }
    norms = {"video.vision.pre_layrnorm": "visual.ln_pre", "video.vision.post_layernorm": "visual.ln_post"}
    parts = norms | {"text.text.final_layer_norm": "ln_final"}
    inside = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    inside |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for ours, theirs in (("video.vision", "visual.transformer"), ("text.text", "transformer")):
        for block in range(BLOCKS):
            here, there = f"{ours}.encoder.layers.{block}", f"{theirs}.resblocks.{block}"
            parts |= {f"{here}.{a}": f"{there}.{b}" for a, b in inside.items()}
            for kind in ("weight", "bias"):
                for part, name in enumerate("qkv"):
                    found[f"{here}.self_attn.{name}_proj.{kind}"] = f"{there}.attn.in_proj_{kind}:{part}"
    found |= {f"{a}.{kind}": f"{b}.{kind}" for a, b in parts.items() for kind in ("weight", "bias")}
    return found


def published_weights() -> dict[str, Tensor]:
    content = torch.load(GOLDEN / "ckpt.best.pth.tar", map_location="cpu", weights_only=True)
    stored = {name.removeprefix("module."): tensor.float() for name, tensor in content["state_dict"].items()}
    weights = {}
    for ours, theirs in names().items():
        name, _, part = theirs.partition(":")
        tensor = stored[f"clip.{name}"]
        tensor = tensor.chunk(3)[int(part)] if part else tensor
        weights[ours] = (tensor.T if ours.endswith("projection.weight") else tensor).contiguous()
    return weights


def published_module(case: str) -> TextVideoRetrieval:
    patch = "3d" if case.startswith("patch3d") else "2d"
    module = TextVideoRetrieval(config(), REDUCERS[case](), patch=patch, num_frames=12, segment_mask="last")  # type: ignore[arg-type]
    weights = published_weights()
    if patch == "3d":
        name = "video.vision.embeddings.patch_embedding.weight"
        weights[name] = F.pad(weights[name][:, :, None], (0, 0, 0, 0, 1, 1))
    module.load_state_dict(weights)
    return module


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative, over the whole tensor."""
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
@pytest.mark.parametrize("batch", ["full", "padded"])
@pytest.mark.parametrize("case", REDUCERS)
def test_embeddings_and_logits(case: str, batch: str) -> None:
    module, inputs = published_module(case).eval(), load_file(GOLDEN / "inputs.safetensors")
    expected = load_file(GOLDEN / f"{case}.safetensors")
    video = module.encode_video(inputs[f"{batch}.frames"].float(), inputs[f"{batch}.frame_mask"])
    text = module.encode_text(inputs[f"{batch}.input_ids"], inputs[f"{batch}.attention_mask"])
    assert (~video.mask).any() == (batch == "padded")
    assert difference(video.segments, expected[f"{batch}.video"]) < 1e-4
    assert difference(text, expected[f"{batch}.text"]) < 1e-4
    assert difference(module.similarity(text, video), expected[f"{batch}.logits"]) < 1e-4


class Watch(L.Callback):
    """What the recordings hold of each step: loss, gradient norm before clipping, rates."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def train(case: str) -> tuple[TextVideoRetrieval, Watch, dict[str, Any]]:
    """Six steps with the default recipe."""
    stored = load_file(GOLDEN / "train_inputs.safetensors")
    batches = []
    for step in range(6):
        batch = {name.partition(".")[2]: value for name, value in stored.items() if name.startswith(f"step{step}.")}
        ids = torch.arange(len(batch["frames"]))
        batch |= {"frames": batch["frames"].float(), "video_ids": ids, "text_ids": ids, "video_of_text": ids}
        batches.append(batch)
    module, watch = published_module(case), Watch()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=1.0,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return module, watch, json.loads((GOLDEN / "meta.json").read_text())[case]


@pytest.mark.parametrize("case", sorted(REDUCERS.keys() - {"kmedoids_b2_s4"}))
def test_training_without_clustering(case: str) -> None:
    before = dict(published_module(case).named_parameters())
    module, watch, published = train(case)
    assert watch.losses == pytest.approx(published["losses"], rel=1e-3)
    assert watch.norms == pytest.approx(published["grad_norms"], rel=1e-3)
    for found, expected in zip(watch.rates, published["lrs"], strict=True):
        assert found == pytest.approx(expected[: len(found)], rel=1e-9)  # the published groups behind are empty here
    compared = 0
    for name, parameter in module.named_parameters():
        theirs = f"clip.{names()[name]}"
        if parameter.ndim == 5:
            theirs = "clip.visual.conv2.weight"  # beside it, conv1 is published, which does not change
        if theirs in published["param_delta_norm"]:
            change = float((parameter - before[name]).detach().norm())
            assert change == pytest.approx(published["param_delta_norm"][theirs], rel=1e-3, abs=1e-9), name
            compared += 1
    assert compared >= 80


def test_training_with_clustering() -> None:
    """Only the first step sees the same medoids: later, rounding decides between the members of clusters of two."""
    _, watch, published = train("kmedoids_b2_s4")
    assert watch.losses[0] == pytest.approx(published["losses"][0], rel=1e-4)
    assert watch.norms[0] == pytest.approx(published["grad_norms"][0], rel=1e-3)
    assert watch.losses == pytest.approx(published["losses"], rel=2e-2)
