"""The whole module against the published CLIP4Clip, imported from its own checkpoint; see test_golden.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.models import import_checkpoint
from centerclip_pl.training.optim import OptimizerOptions

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "clip4clip"
pytestmark = [
    pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the recordings of the published CLIP4Clip are not at {GOLDEN}"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
]
HEADS = ("meanP", "seqLSTM")


def published_module(head: str) -> TextVideoRetrieval:
    options: dict[str, Any] = {"num_frames": 12, "optimizer": OptimizerOptions(recipe="clip4clip")}
    module = import_checkpoint(GOLDEN / "seqLSTM.pytorch_model.bin.0", **options)
    if head == "seqLSTM":
        return module
    plain = TextVideoRetrieval(module.clip_config, head="meanP", **options)
    shared = {name: value for name, value in module.state_dict().items() if not name.startswith("similarity_head")}
    plain.load_state_dict(shared)
    return plain


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
@pytest.mark.parametrize("batch", ["full", "padded"])
@pytest.mark.parametrize("head", HEADS)
def test_embeddings_and_logits(head: str, batch: str) -> None:
    module, inputs = published_module(head).eval(), load_file(GOLDEN / "inputs.safetensors")
    expected = load_file(GOLDEN / f"{head}.safetensors")
    video = module.encode_video(inputs[f"{batch}.frames"].float(), inputs[f"{batch}.frame_mask"])
    text = module.encode_text(inputs[f"{batch}.input_ids"], inputs[f"{batch}.attention_mask"])
    assert difference(video.segments, expected[f"{batch}.video"]) < 1e-4
    assert difference(text, expected[f"{batch}.text"]) < 1e-4
    assert difference(module.similarity(text, video), expected[f"{batch}.logits"]) < 1e-4


class Watch(L.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


@pytest.mark.parametrize("head", HEADS)
def test_training(head: str) -> None:
    """Six steps with CLIP4Clip's recipe. The sizes of all weight changes agree, tower by tower and in the head."""
    stored = load_file(GOLDEN / "train_inputs.safetensors")
    batches = []
    for step in range(6):
        batch = {name.partition(".")[2]: value for name, value in stored.items() if name.startswith(f"step{step}.")}
        ids = torch.arange(len(batch["frames"]))
        batch |= {"frames": batch["frames"].float(), "video_ids": ids, "text_ids": ids, "video_of_text": ids}
        batches.append(batch)
    module, watch = published_module(head).train(), Watch()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
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
    published = json.loads((GOLDEN / "meta.json").read_text())[head]
    assert watch.losses == pytest.approx(published["losses"], rel=1e-3)
    assert watch.norms == pytest.approx(published["grad_norms"], rel=1e-3)
    changes = {name: float((value.detach() - before[name]).norm()) for name, value in module.named_parameters()}
    sizes = published["param_delta_norm"]

    def total(names: list[str], of: dict[str, float]) -> float:
        return sum(of[name] ** 2 for name in names) ** 0.5

    for ours, published_prefix in (("video.", "clip.visual."), ("similarity_head.lstm.", "lstm_visual.")):
        found = total([name for name in changes if name.startswith(ours)], changes)
        assert found == pytest.approx(total([n for n in sizes if n.startswith(published_prefix)], sizes), rel=1e-3)
    text = [n for n in sizes if n.startswith("clip.") and not n.startswith(("clip.visual.", "clip.logit_scale"))]
    assert total([n for n in changes if n.startswith("text.")], changes) == pytest.approx(total(text, sizes), rel=1e-3)
    for name, change in changes.items():
        if name.startswith("similarity_head.lstm."):
            published_name = name.replace("similarity_head.lstm", "lstm_visual")
            assert change == pytest.approx(sizes[published_name], rel=1e-3), name
    assert changes["logit_scale"] == pytest.approx(sizes["clip.logit_scale"], rel=1e-3)
