"""The module against transformers' own CLIPModel and plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import CLIPConfig, CLIPModel

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.retrieval import retrieval_metrics
from centerclip_pl.tokens import KMedoids
from centerclip_pl.training.optim import OptimizerOptions, rate_factor
from centerclip_pl.types import Batch, VideoEmbedding

pytestmark = pytest.mark.filterwarnings(
    "ignore:You are trying to `self.log.*",  # a step without a trainer
    "ignore:You defined a `validation_step` but have no `val_dataloader`.*",
    "ignore:.*isinstance.treespec, LeafSpec.*",  # of Lightning's own
    "ignore:The dirpath has changed from.*",
    "ignore:`gradient_checkpointing_enable` is deprecated.*",  # until v6, which the bounds leave out
)

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def small_config(patch: int = 8) -> CLIPConfig:
    vision = {"hidden_size": 16, "num_hidden_layers": 4, "image_size": 32, "patch_size": patch}
    text = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 32}
    return CLIPConfig(
        text_config=text | {"num_attention_heads": 2, "intermediate_size": 48, "bos_token_id": 98, "eos_token_id": 99},
        vision_config=vision | {"num_attention_heads": 2, "intermediate_size": 32},
        projection_dim=24,
    )


def make_batch(videos: int = 4, captions: list[int] | None = None, first: int = 40, seed: int = 0) -> Batch:
    """Noise of 6 frames; ``captions`` of each video (one by default), ids from ``first``, short clips among them."""
    generator = torch.Generator().manual_seed(seed)
    counts = [1] * videos if captions is None else captions
    texts = sum(counts)
    ids = torch.randint(0, 97, (texts, 12), generator=generator)
    lengths = torch.randint(3, 13, (texts, 1), generator=generator)
    position = torch.arange(12)
    ids[:, 0] = 98
    ids = torch.where(position == lengths - 1, 99, ids)
    real = torch.randint(1, 7, (videos, 1), generator=generator)
    real[0] = 6
    video_ids = torch.arange(first, first + videos)
    return Batch(
        frames=torch.randint(0, 256, (videos, 6, 3, 32, 32), generator=generator, dtype=torch.uint8),
        frame_mask=torch.arange(6) < real,
        video_ids=video_ids,
        input_ids=ids,
        attention_mask=(position < lengths).long(),
        text_ids=torch.arange(texts) + 10 * first,
        video_of_text=video_ids.repeat_interleave(torch.tensor(counts)),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    CLIPModel(small_config()).save_pretrained(path)
    return str(path)


Make = Callable[..., TextVideoRetrieval]


@pytest.fixture
def make(folder: str) -> Make:
    """``make(**options)``: the same weights each time."""

    def build(**options: Any) -> TextVideoRetrieval:
        return TextVideoRetrieval(**({"backbone": folder, "num_frames": 6} | options))

    return build


@pytest.fixture
def clip(folder: str) -> CLIPModel:
    model: CLIPModel = CLIPModel.from_pretrained(folder)
    return model


def reference_logits(clip: CLIPModel, batch: Batch) -> Tensor:
    """CLIP4Clip's meanP with transformers' CLIPModel, video by video."""
    text = F.normalize(clip.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output, dim=-1)
    pooled = []
    for frames, mask in zip(batch["frames"], batch["frame_mask"], strict=True):
        pictures = (frames[mask].float() / 255 - MEAN) / STD
        each = F.normalize(clip.get_image_features(pixel_values=pictures).pooler_output, dim=-1)
        pooled.append(F.normalize(each.mean(0), dim=-1))
    return clip.logit_scale.exp() * text @ torch.stack(pooled).T


def reference_loss(logits: Tensor) -> float:
    """Mean of the cross entropies of rows and columns, in plain Python."""
    rows = logits.double().tolist()
    columns = logits.double().T.tolist()
    own = [row[i] for i, row in enumerate(rows)]
    losses = [math.log(sum(map(math.exp, line))) - own[i] for lines in (rows, columns) for i, line in enumerate(lines)]
    return sum(losses) / len(losses)


# What it computes ---------------------------------------------------------------------------------------------------


def test_the_baseline_is_clip(make: Make, clip: CLIPModel) -> None:
    batch, module = make_batch(), make()
    logits = module(batch)
    assert logits.shape == (4, 4)
    expected = reference_logits(clip, batch)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    loss = module.training_step(batch, 0)
    assert loss.item() == pytest.approx(reference_loss(expected), rel=1e-5)


def test_float_frames_are_taken_as_they_are(make: Make) -> None:
    module = make(reduction=KMedoids(2, 3, 7))
    batch = make_batch()
    floats = (batch["frames"].float() / 255 - MEAN) / STD
    assert torch.equal(module.encode_video(floats).segments, module.encode_video(batch["frames"]).segments)
    assert module.encode_video(batch["frames"]).mask.all()


@pytest.mark.parametrize(("rule", "counts"), [("any", [True, True]), ("last", [True, False])])
def test_segment_mask(make: Make, rule: str, counts: list[bool]) -> None:
    module = make(reduction=[KMedoids(1, 2, 7)], segment_mask=rule)
    video = module.encode_video(make_batch(1)["frames"], torch.tensor([[1, 1, 1, 1, 0, 0]]))
    assert video.mask.tolist() == [counts]
    assert video.segments.shape == (1, 2, 24)


def test_inference_mode_gives_the_same(make: Make) -> None:
    module, batch = make(reduction=KMedoids(2, 3, 7)).eval(), make_batch()
    with torch.no_grad():
        expected = module(batch)
    with torch.inference_mode():
        assert torch.equal(module(batch), expected)


@pytest.mark.soak
def test_a_compiled_video_tower_gives_the_same(make: Make) -> None:
    module, batch = make(reduction=KMedoids(2, 3, 7)).eval(), make_batch()
    compiled = torch.compile(module.video, backend="eager")  # the graph is captured; no C++ compiler needed
    with torch.no_grad():
        expected = module.encode_video(batch["frames"], batch["frame_mask"])
        found = compiled(batch["frames"], batch["frame_mask"])
    torch.testing.assert_close(found.segments, expected.segments)
    assert torch.equal(found.mask, expected.mask)


def test_gradient_checkpointing_gives_the_same_gradients(make: Make) -> None:
    batch, found = make_batch(), []
    for checkpointing in (False, True):
        module = make(reduction=KMedoids(2, 3, 7), gradient_checkpointing=checkpointing)
        calls: list[int] = []
        block = module.video.vision.encoder.layers[3]
        block.self_attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        loss = module.training_step(batch, 0)
        loss.backward()
        assert len(calls) == (2 if checkpointing else 1)  # once more on the way back
        found.append((loss.detach(), {name: p.grad for name, p in module.named_parameters()}))
    (loss, gradients), (its_loss, its_gradients) = found
    torch.testing.assert_close(its_loss, loss)
    for name, gradient in gradients.items():
        assert gradient is not None, name  # every parameter takes part, as DDP wants it
        torch.testing.assert_close(its_gradients[name], gradient)


# What it refuses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"head": "maxP"}, r"(?s)head is 'maxP'.*'seqTransf'"),
        ({"patch": "4d"}, r"(?s)patch is '4d'.*'3d'"),
        ({"attention": "flash"}, r"(?s)attention is 'flash'.*'eager'"),
        ({"segment_mask": "first"}, r"segment_mask is 'first'"),
        ({"reduction": KMedoids(2, 4, 7)}, r"6 frames cannot be divided into 4 segments"),
        ({"reduction": KMedoids(2, 3, 7), "num_frames": 8}, r"8 frames cannot be divided into 3 segments"),
        ({"reduction": KMedoids(2, 3, 33)}, r"clusters is 33.*only 32 tokens"),
        ({"reduction": [KMedoids(2, 3, 7), KMedoids(2, 1, 7)]}, r"rising blocks"),
        ({"reduction": KMedoids(4, 3, 7)}, r"after_block is 4.*has 4 blocks"),
    ],
)
def test_misfits_are_refused_at_construction(make: Make, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make(**options)


def test_a_loss_that_is_not_finite_names_the_videos(make: Make) -> None:
    module = make()
    with torch.no_grad():
        module.logit_scale.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="the loss is nan; at step 0, on videos 40, 41, 42, 43") as caught:
        module.training_step(make_batch(), 0)
    assert "learning rate" in str(caught.value.next_step)

    class Data(L.LightningDataModule):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader([make_batch(2, first=0)], batch_size=None)  # type: ignore[arg-type]

        def videos(self, split: str) -> list[str]:
            assert split == "train"
            return ["one.mp4", "two.mp4"]

    with pytest.raises(NonFiniteError, match=r"on videos one\.mp4, two\.mp4"):
        trainer(max_steps=1).fit(module, datamodule=Data())


def test_what_clustering_refuses_names_the_videos_too(make: Make) -> None:
    module = make(reduction=KMedoids(2, 3, 7))
    with torch.no_grad():
        module.video.vision.encoder.layers[0].mlp.fc1.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"cannot be clustered; at step 0, on videos 40, 41, 42, 43"):
        module.training_step(make_batch(), 0)


def test_a_clip_without_a_segment_is_named(make: Make) -> None:
    module, batch = make(reduction=KMedoids(2, 3, 7), segment_mask="last"), make_batch()
    batch["frame_mask"] = (torch.arange(6) < 1).expand(4, 6)
    with pytest.raises(NonFiniteError, match=r"no segment that counts.*on videos 40, 41, 42, 43"):
        module.training_step(batch, 0)


# How it learns -------------------------------------------------------------------------------------------------------


class WithParameters(KMedoids):
    """A reducer with parameters that CLIP does not have."""

    def __init__(self, after_block: int, segments: int, clusters: int) -> None:
        super().__init__(after_block, segments, clusters)
        self.embedding = nn.Parameter(torch.zeros(clusters, 16))
        self.shift = nn.Linear(1, 1)


@pytest.mark.parametrize("reduction", [None, KMedoids(2, 3, 7), WithParameters(2, 3, 7)])
def test_every_parameter_is_in_one_group(make: Make, reduction: KMedoids | None) -> None:
    module = make(reduction=reduction, optimizer=OptimizerOptions(learning_rate=0.1, clip_scale=0.01))
    module.text.text.embeddings.requires_grad_(False)
    optimizer: Any = module.configure_optimizers()
    groups = {group["name"]: group for group in optimizer["optimizer"].param_groups}
    own = ["new_decayed", "new"] if isinstance(reduction, WithParameters) else []
    assert list(groups) == ["clip_decayed", "clip", *own]
    for name, parameter in module.named_parameters():
        of = [key for key, group in groups.items() if any(parameter is p for p in group["params"])]
        if "text.text.embeddings" in name:
            assert of == []
            continue
        origin = "new" if ".shift." in name or name.endswith(".embedding") else "clip"
        assert of == [origin if "bias" in name else f"{origin}_decayed"], name
        assert groups[of[0]]["initial_lr"] == pytest.approx(0.1 if origin == "new" else 0.001)
        assert groups[of[0]]["weight_decay"] == (0.0 if "bias" in name else 0.2)


@pytest.mark.parametrize(("before", "after"), [(6.0, 4.6052), (3.0, 3.0), (-1.0, 0.1)])
def test_the_logit_scale_is_clamped_after_each_step(make: Make, before: float, after: float) -> None:
    module = make()
    with torch.no_grad():
        module.logit_scale.fill_(before)
    module.optimizer_step(0, 0, torch.optim.SGD([module.logit_scale], lr=0.1), lambda: None)
    assert module.logit_scale.item() == pytest.approx(after)


TRAINING = [make_batch(seed=seed) for seed in (1, 2, 3)]
OPTIONS = OptimizerOptions(learning_rate=1e-2, clip_scale=0.1)


def trainer(**options: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet["enable_checkpointing"] = False
    return L.Trainer(accelerator="cpu", devices=1, log_every_n_steps=1, **(quiet | options))


def fit(module: TextVideoRetrieval, run: Path, resume: Path | None = None) -> pd.DataFrame:
    """Two epochs of three steps, a checkpoint after each step; returns what was logged, by step."""
    every = ModelCheckpoint(run, "{step}", every_n_train_steps=1, save_top_k=-1)
    fitter = trainer(
        max_epochs=2,
        gradient_clip_val=1.0,
        callbacks=[every, LearningRateMonitor("step")],
        enable_checkpointing=True,
        logger=CSVLogger(run, name="", version=""),
    )
    fitter.fit(module, DataLoader(TRAINING, batch_size=None), ckpt_path=resume, weights_only=True)  # type: ignore[arg-type]
    assert fitter.global_step == 6
    return pd.read_csv(run / "metrics.csv").groupby("step").first()


@pytest.fixture(scope="module")
def fitted(folder: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TextVideoRetrieval, pd.DataFrame, Path]:
    run = tmp_path_factory.mktemp("fit")
    module = TextVideoRetrieval(folder, WithParameters(2, 3, 7), num_frames=6, optimizer=OPTIONS)
    return module, fit(module, run), run


RATES = {"lr-AdamW/clip_decayed": 1e-3, "lr-AdamW/clip": 1e-3, "lr-AdamW/new_decayed": 1e-2, "lr-AdamW/new": 1e-2}


def test_the_schedule_runs_over_the_whole_training(fitted: tuple[TextVideoRetrieval, pd.DataFrame, Path]) -> None:
    _, logged, _ = fitted
    factors = [rate_factor(step, 6, OPTIONS) for step in range(6)]
    for column, highest in RATES.items():
        assert logged[column].tolist() == pytest.approx([highest * factor for factor in factors], rel=1e-6), column
    assert logged["train/loss"].notna().all()
    scales = logged["train/logit_scale"]
    assert scales.notna().all()
    assert (scales <= math.exp(4.6052) * (1 + 1e-6)).all()


@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*")
def test_it_goes_on_from_the_middle_of_an_epoch(
    fitted: tuple[TextVideoRetrieval, pd.DataFrame, Path], make: Make, tmp_path: Path
) -> None:
    _, logged, run = fitted
    other = make(reduction=WithParameters(2, 3, 7), optimizer=OPTIONS)
    resumed = fit(other, tmp_path, run / "step=4.ckpt")
    assert resumed.index.tolist() == [4, 5]
    for column in RATES:
        assert resumed[column].tolist() == pytest.approx(logged[column][4:].tolist(), rel=1e-9), column


def test_it_goes_on_exactly_from_the_end_of_an_epoch(
    fitted: tuple[TextVideoRetrieval, pd.DataFrame, Path], make: Make, tmp_path: Path
) -> None:
    module, logged, run = fitted
    other = make(reduction=WithParameters(2, 3, 7), optimizer=OPTIONS)
    resumed = fit(other, tmp_path, run / "step=3.ckpt")
    assert resumed["train/loss"].tolist() == logged["train/loss"][3:].tolist()
    for (name, mine), (_, expected) in zip(other.named_parameters(), module.named_parameters(), strict=True):
        assert torch.equal(mine, expected), name


def test_bf16_mixed_precision(make: Make) -> None:
    module = make(reduction=KMedoids(2, 3, 7))
    exact = module.training_step(TRAINING[0], 0).item()
    losses: list[float] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            losses.append(outputs["loss"].item())

    fitter = trainer(max_steps=2, precision="bf16-mixed", gradient_clip_val=1.0, callbacks=[Watch()])
    loader = DataLoader([*TRAINING[:2]], batch_size=None)  # type: ignore[arg-type]
    fitter.fit(module, loader, loader)
    assert losses[0] == pytest.approx(exact, rel=0.05)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert math.isfinite(fitter.callback_metrics["val/t2v/MnR"])


# How it evaluates ----------------------------------------------------------------------------------------------------

EVALUATION = [make_batch(3, [2, 1, 3], first=0), make_batch(2, [0, 0], first=3, seed=5), make_batch(1, [2], 5, seed=6)]


def embed(module: TextVideoRetrieval, batch: Batch) -> tuple[VideoEmbedding, Tensor]:
    return module.encode_video(batch["frames"], batch["frame_mask"]), module.encode_text(
        batch["input_ids"], batch["attention_mask"]
    )


@pytest.mark.parametrize("stage", ["val", "test"])
def test_metrics_are_those_of_the_whole_split(make: Make, stage: str) -> None:
    module = make(reduction=KMedoids(2, 3, 7))
    run = trainer()
    call = run.validate if stage == "val" else run.test
    reported = call(module, DataLoader(EVALUATION, batch_size=None), verbose=False)[0]  # type: ignore[arg-type]
    assert module.training  # its mode is given back
    with torch.no_grad():
        videos = [module.encode_video(batch["frames"], batch["frame_mask"]) for batch in EVALUATION]
        texts = [embed(module, batch)[1] for batch in (EVALUATION[0], EVALUATION[2])]
        whole = VideoEmbedding(torch.cat([v.segments for v in videos]), torch.cat([v.mask for v in videos]))
        logits = module.similarity(torch.cat(texts), whole)
    expected = retrieval_metrics(logits, torch.cat([batch["video_of_text"] for batch in EVALUATION]))
    for name, value in expected.items():
        assert reported[f"{stage}/{name}"] == pytest.approx(value), name
    assert reported == pytest.approx(call(module, DataLoader(EVALUATION, batch_size=None), verbose=False)[0])  # type: ignore[arg-type]


def test_predictions(make: Make) -> None:
    module = make(reduction=KMedoids(2, 3, 7)).eval()
    with torch.no_grad():
        for batch in EVALUATION:
            found = module.predict_step(batch, 0)
            assert torch.equal(found["segments"], module.encode_video(batch["frames"], batch["frame_mask"]).segments)
            assert found["text"].shape == (len(batch["input_ids"]), 24)
            for name in ("video_ids", "text_ids", "video_of_text"):
                assert torch.equal(found[name], batch[name])  # type: ignore[literal-required]
        video, text = embed(module, EVALUATION[0])
        found = module.predict_step(EVALUATION[0], 0)
        assert torch.equal(found["text"], text)
        assert torch.equal(found["mask"], video.mask)
