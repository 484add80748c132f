"""The optimiser of CLIP4Clip against a slow scalar reference, torch's AdamW, and a recorded training."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import CLIPConfig

from centerclip_pl.errors import ConfigError
from centerclip_pl.models import TextTower, VideoTower, load_backbone
from centerclip_pl.retrieval import cosine_logits, symmetric_cross_entropy
from centerclip_pl.training.bert_adam import BertAdam
from centerclip_pl.training.optim import (
    OptimizerOptions,
    logit_scale_bounds,
    make_optimizer,
    parameter_groups,
    rate_factor,
)

# Against slow references -----------------------------------------------------------------------------------------


class Scalars:
    """One parameter as a list of Python numbers, and the formulas written out for each of them."""

    def __init__(self, values: list[float], **options: Any) -> None:
        self.values, self.options = values, options
        self.m, self.v = [0.0] * len(values), [0.0] * len(values)

    def step(self, gradient: list[float]) -> bool:
        """Whether the gradient had to be shortened."""
        o = self.options
        length = sum(g * g for g in gradient) ** 0.5
        shorten = length + 1e-6 > o["max_grad_norm"]
        for i, g in enumerate(gradient):
            if shorten:
                g *= o["max_grad_norm"] / (length + 1e-6)
            self.m[i] = o["betas"][0] * self.m[i] + (1 - o["betas"][0]) * g
            self.v[i] = o["betas"][1] * self.v[i] + (1 - o["betas"][1]) * g * g
            adam = self.m[i] / (self.v[i] ** 0.5 + o["eps"])
            self.values[i] -= o["lr"] * (adam + o["weight_decay"] * self.values[i])
        return shorten


def parameters(*shapes: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def set_gradients(members: list[nn.Parameter], step: int, size: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for parameter in members:
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.grad = (size * noise).to(parameter.dtype)


SHAPES = [(3, 2), (4,), (), (2, 1, 3)]


@pytest.mark.parametrize("foreach", [None, True, False])
def test_every_number_of_several_groups(foreach: bool | None) -> None:
    """Seven steps with short gradients, that stay, and long ones, that are clipped; each group with its own options."""
    members = parameters(*SHAPES)
    own: list[dict[str, Any]] = [
        {"lr": 0.05, "weight_decay": 0.2},
        {"lr": 0.01, "weight_decay": 0.0, "betas": (0.5, 0.7)},
        {"lr": 0.1, "eps": 0.1, "max_grad_norm": 0.3},
        {"max_grad_norm": math.inf},
    ]
    common = {"lr": 0.02, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.4, "max_grad_norm": 1.0}
    groups = [{"params": [p], **options} for p, options in zip(members, own, strict=True)]
    optimizer = BertAdam(groups, foreach=foreach, **common)  # type: ignore[arg-type]
    references = [
        Scalars(p.detach().flatten().tolist(), **(common | options)) for p, options in zip(members, own, strict=True)
    ]
    clipped = []
    for step in range(7):
        set_gradients(members, step, size=10.0 if step % 2 else 0.05)
        optimizer.step()
        clipped.append([r.step(p.grad.flatten().tolist()) for r, p in zip(references, members, strict=True)])  # type: ignore[union-attr]
        for parameter, reference in zip(members, references, strict=True):
            assert parameter.detach().flatten().tolist() == pytest.approx(reference.values, rel=1e-12)
    assert [row[0] for row in clipped] == [False, True] * 3 + [False]
    assert not any(row[3] for row in clipped)  # without a limit


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_equals_adamw_whose_bias_correction_is_undone(decay: float) -> None:
    """AdamW's step t is lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps): rate and eps can take that back."""
    ours, theirs = parameters(*SHAPES), parameters(*SHAPES)
    lr, eps, (beta1, beta2) = 0.03, 1e-3, (0.9, 0.98)
    optimizer = BertAdam(ours, lr, (beta1, beta2), eps, decay, max_grad_norm=math.inf)
    reference = AdamW(theirs, lr, (beta1, beta2))
    for step in range(1, 9):
        for group in reference.param_groups:
            group["lr"] = lr * (1 - beta1**step) / math.sqrt(1 - beta2**step)
            group["eps"] = eps / math.sqrt(1 - beta2**step)
            group["weight_decay"] = decay * lr / group["lr"]
        for members, stepped in ((ours, optimizer), (theirs, reference)):
            set_gradients(members, step)
            stepped.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=0)


def test_each_gradient_is_clipped_by_itself_and_left_alone() -> None:
    long, short = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = BertAdam([long, short], lr=1.0, betas=(0.0, 0.0), eps=1.0, weight_decay=0.0, foreach=True)
    long.grad, short.grad = torch.tensor([30.0, 40.0]), torch.tensor([0.3, 0.4])
    optimizer.step()
    # With both betas zero the step is g / (|g| + 1).
    torch.testing.assert_close(long.detach(), -torch.tensor([0.6 / 1.6, 0.8 / 1.8]))
    torch.testing.assert_close(short.detach(), -torch.tensor([0.3 / 1.3, 0.4 / 1.4]))
    assert long.grad.tolist() == [30.0, 40.0]


def test_decay_at_the_rate_of_clip_is_not_rounded_away() -> None:
    """By itself it is, in float32: it has to reach the parameter together with Adam's update."""
    rate, decay = 5e-8, 0.5
    assert float(torch.ones(1) * (1 - rate * decay)) == 1.0
    ends = []
    for weight_decay in (decay, 0.0):
        (parameter,) = members = [nn.Parameter(torch.ones(1))]
        optimizer = BertAdam(members, rate, weight_decay=weight_decay)
        for _ in range(8):
            parameter.grad = torch.full((1,), 0.5)
            optimizer.step()
        ends.append(parameter.item())
    assert ends[0] < ends[1] < 1.0


def test_together_and_one_by_one_are_bit_equal() -> None:
    together, single = (parameters(*SHAPES, dtype=torch.float32) for _ in range(2))
    optimizers = [BertAdam(together, foreach=True), BertAdam(single, foreach=False)]
    for step in range(3):
        for members, optimizer in zip((together, single), optimizers, strict=True):
            set_gradients(members, step)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(together, single, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    here = parameters(*SHAPES, dtype=torch.float32)
    there = [nn.Parameter(p.detach().cuda()) for p in here]
    optimizers = [BertAdam(here), BertAdam(there)]
    for step in range(3):
        for members, optimizer in zip((here, there), optimizers, strict=True):
            set_gradients(here, step)
            for a, b in zip(here, members, strict=True):
                assert a.grad is not None
                b.grad = a.grad.to(b.device)
            optimizer.step()
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-6, atol=1e-7)


# As an optimiser of torch ----------------------------------------------------------------------------------------


def test_parameters_without_gradient_are_left_alone() -> None:
    used, unused = parameters((2,), (2,))
    before = unused.detach().clone()
    optimizer = BertAdam([{"params": [used]}, {"params": [unused]}])
    set_gradients([used], 0)
    optimizer.step()
    assert torch.equal(unused, before)  # no decay either
    assert set(optimizer.state) == {used}


def test_a_resumed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def build(members: list[nn.Parameter]) -> tuple[BertAdam, LambdaLR]:
        groups = [
            {"params": members[:2], "lr": 0.1, "weight_decay": 0.3},
            {"params": members[2:], "weight_decay": 0.0},
        ]
        optimizer = BertAdam(groups)
        return optimizer, LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def go(members: list[nn.Parameter], parts: tuple[BertAdam, LambdaLR], steps: range) -> None:
        for step in steps:
            set_gradients(members, step)
            for part in parts:
                part.step()

    members = parameters(*SHAPES, dtype=torch.float32)
    parts = build(members)
    go(members, parts, range(3))
    stored = {"weights": [p.detach() for p in members], "parts": [part.state_dict() for part in parts]}
    torch.save(stored, tmp_path / "state.pt")
    go(members, parts, range(3, 6))

    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = [nn.Parameter(weight) for weight in stored["weights"]]
    again = build(resumed)
    again[0].load_state_dict(stored["parts"][0])
    again[1].load_state_dict(stored["parts"][1])
    go(resumed, again, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(members, resumed, strict=True))
    for a, b in zip(members, resumed, strict=True):
        assert all(torch.equal(parts[0].state[a][name], again[0].state[b][name]) for name in ("exp_avg", "exp_avg_sq"))
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer, _ in (parts, again)]
    assert rates[0] == rates[1] == pytest.approx([0.1 / 7, 1e-4 / 7])


def test_a_copy_steps_alike() -> None:
    members = parameters((3,))
    optimizer = BertAdam(members)
    set_gradients(members, 0)
    optimizer.step()
    copied = copy.deepcopy(optimizer)
    twin = copied.param_groups[0]["params"]
    set_gradients(members, 1)
    set_gradients(twin, 1)
    optimizer.step()
    copied.step()
    assert twin[0] is not members[0]
    assert torch.equal(twin[0], members[0])


def test_a_closure_computes_the_gradient() -> None:
    (parameter,) = parameters((2,))
    optimizer = BertAdam([parameter], lr=0.1)
    before = parameter.detach().clone()

    def closure() -> float:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss.item()

    with torch.no_grad():
        assert optimizer.step(closure) == pytest.approx(float((before**2).sum()))
    assert (parameter.detach().abs() < before.abs()).all()
    assert optimizer.step() is None


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_in_a_lightning_training() -> None:
    """With Lightning's closure, its global clipping and its scheduler, against the loop written out."""
    inputs = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return ((batch @ self.weight) ** 2).mean()

        def configure_optimizers(self) -> Any:
            optimizer = BertAdam([self.weight], lr=0.1)
            schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    module, loop = Module(), Module()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=0.5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(inputs, batch_size=None))  # type: ignore[arg-type]
    optimizer = BertAdam([loop.weight], lr=0.1)
    for step, batch in enumerate(inputs):
        optimizer.zero_grad()
        loop.training_step(batch, step).backward()
        clip_grad_norm_(loop.weight, 0.5)
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        optimizer.step()
    assert torch.equal(module.weight, loop.weight)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1e-4},
        {"lr": math.nan},
        {"eps": -1e-6},
        {"weight_decay": -0.2},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": -1.0},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"BertAdam: {next(iter(wrong))} is "):
        BertAdam(parameters((2,)), **wrong)
    with pytest.raises(ConfigError, match=f"BertAdam: {next(iter(wrong))} is "):
        BertAdam([{"params": parameters((2,)), **wrong}])


def test_sparse_gradients_are_refused_before_anything_changes() -> None:
    dense = nn.Parameter(torch.ones(2))
    embedding = nn.Embedding(5, 3, sparse=True)
    groups: list[dict[str, Any]] = [{"params": [dense]}, {"params": [embedding.weight]}]
    optimizer = BertAdam(groups)
    (embedding(torch.tensor([1, 1])).sum() + dense.sum()).backward()
    with pytest.raises(ConfigError, match=r"a parameter of shape \[5, 3\] has one of layout torch.sparse_coo"):
        optimizer.step()
    assert dense.tolist() == [1.0, 1.0]


def test_the_state_of_another_optimizer_is_refused() -> None:
    members = parameters((2,))
    other = AdamW(members)
    set_gradients(members, 0)
    other.step()
    with pytest.raises(ConfigError, match="is not that of BertAdam"):
        BertAdam(members).load_state_dict(other.state_dict())


# Against the published CLIP4Clip ---------------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "clip4clip"
BLOCKS = 4
recorded = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the recordings of the published CLIP4Clip are not at {GOLDEN}"
)


class Clip(nn.Module):
    """The towers and the scale alone, with the parameter names of TextVideoRetrieval."""

    def __init__(self) -> None:
        super().__init__()
        tower = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": BLOCKS, "num_attention_heads": 2}
        text = {"vocab_size": 500, "max_position_embeddings": 32, "bos_token_id": 498, "eos_token_id": 499}
        vision = {"image_size": 32, "patch_size": 8}
        clip = load_backbone(CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=128))
        self.video = VideoTower(clip.vision_model, clip.visual_projection)
        self.text = TextTower(clip.text_model, clip.text_projection)
        self.logit_scale = nn.Parameter(clip.logit_scale.detach().clone())

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        video = self.video(batch["frames"].float(), batch["frame_mask"])
        return cosine_logits(self.text(batch["input_ids"], batch["attention_mask"]), video, self.logit_scale)


PARTS = {
    "video.vision.embeddings.class_embedding": "visual.class_embedding",
    "video.vision.embeddings.position_embedding.weight": "visual.positional_embedding",
    "video.vision.embeddings.patch_embedding": "visual.conv1",
    "video.vision.pre_layrnorm": "visual.ln_pre",
    "video.vision.post_layernorm": "visual.ln_post",
    "video.vision.encoder.layers": "visual.transformer.resblocks",
    "video.projection.weight": "visual.proj",
    "text.text.embeddings.token_embedding": "token_embedding",
    "text.text.embeddings.position_embedding.weight": "positional_embedding",
    "text.text.final_layer_norm": "ln_final",
    "text.text.encoder.layers": "transformer.resblocks",
    "text.projection.weight": "text_projection",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def published_name(ours: str) -> str:
    """The published name of a parameter; of the fused projections of queries, keys and values, all of it."""
    theirs = ours
    for a, b in PARTS.items():
        theirs = theirs.replace(a, b)
    for part in "qkv":
        theirs = theirs.replace(f"self_attn.{part}_proj.", "attn.in_proj_")
    return f"clip.{theirs}"


def published_weights(clip: Clip) -> dict[str, Tensor]:
    stored = torch.load(GOLDEN / "seqLSTM.pytorch_model.bin.0", map_location="cpu", weights_only=True)
    weights = {}
    for name, _ in clip.named_parameters():
        tensor = stored[published_name(name)].float()
        for part, letter in enumerate("qkv"):
            if f".{letter}_proj." in name:
                tensor = tensor.chunk(3)[part]
        weights[name] = (tensor.T if name.endswith("projection.weight") else tensor).contiguous()
    return weights


def batch_of(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.partition(".")[2]: value for name, value in stored.items() if name.startswith(f"{prefix}.")}


@recorded
@torch.no_grad()
@pytest.mark.parametrize("case", ["full", "padded"])
def test_the_stored_weights_are_those_of_the_recorded_mean_pooling(case: str) -> None:
    clip = Clip().eval()
    clip.load_state_dict(published_weights(clip))
    logits = clip(batch_of(load_file(GOLDEN / "inputs.safetensors"), case))
    expected = load_file(GOLDEN / "meanP.safetensors")[f"{case}.logits"]
    assert float((logits - expected).norm() / expected.norm()) < 1e-4


@recorded
def test_six_steps_of_the_published_training() -> None:
    published = json.loads((GOLDEN / "meta.json").read_text())["meanP"]
    stored = load_file(GOLDEN / "train_inputs.safetensors")
    clip = Clip().train()
    before = published_weights(clip)
    clip.load_state_dict(before)
    options = OptimizerOptions(recipe="clip4clip")
    optimizer = make_optimizer(parameter_groups(clip.named_parameters(), [], options), options)
    schedule = LambdaLR(optimizer, lambda step: rate_factor(step, 6, options))
    lowest, highest = logit_scale_bounds(options, 4.6052)
    losses, norms = [], []
    for step in range(6):
        optimizer.zero_grad()
        loss = symmetric_cross_entropy(clip(batch_of(stored, f"step{step}")))
        loss.backward()
        norms.append(float(clip_grad_norm_(clip.parameters(), 1.0)))
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(lowest, highest)
        losses.append(loss.item())
    assert losses == pytest.approx(published["losses"], rel=1e-3)
    assert norms == pytest.approx(published["grad_norms"], rel=1e-3)

    squares: dict[str, float] = {}
    for name, parameter in clip.named_parameters():
        change = float((parameter.detach() - before[name]).norm()) ** 2
        squares[published_name(name)] = squares.get(published_name(name), 0.0) + change
    found = {name: math.sqrt(square) for name, square in squares.items()}
    assert found == pytest.approx(published["param_delta_norm"], rel=1e-3)
