"""Losses and gradients that are not finite: the run ends, its weights stay, and a file says where it came from."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.errors import NonFiniteError
from centerclip_pl.training import nonfinite
from centerclip_pl.training.loggers import RunCSVLogger
from centerclip_pl.training.nonfinite import NonFiniteGuard
from centerclip_pl.types import Batch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec.*", "ignore:.*lr_scheduler.step.*before .optimizer.step.*"
)
Make = Callable[..., Any]


def poison_gradient(model: TextVideoRetrieval, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From a step on the loss is finite, and its gradient is not: the derivative of a root at zero."""
    batch_loss = model.batch_loss

    def with_root(batch: Batch) -> Tensor:
        loss = batch_loss(batch)
        if model.global_step >= step:
            loss = loss + (model.text.projection.weight[0, 0] * 0).sqrt()
        return loss

    monkeypatch.setattr(model, "batch_loss", with_root)


def only_report(folder: Path) -> tuple[str, dict[str, Any]]:
    (path,) = folder.glob("nonfinite-*.json")
    report: dict[str, Any] = json.loads(path.read_text())
    return path.name, report


def test_a_gradient_that_is_not_finite_ends_the_run_before_the_weights_change(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    poison_gradient(model, monkeypatch, step=1)
    last = tmp_path / "last.ckpt"
    last.touch()
    seen: list[dict[str, Tensor]] = []

    class Before(L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            seen.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    trainer = small_trainer(
        NonFiniteGuard(tmp_path, last), Before(), accumulate_grad_batches=2, gradient_clip_val=1.0, limit_val_batches=0
    )
    with pytest.raises(NonFiniteError) as stopped:
        trainer.fit(model, datamodule=noise_data())
    message = str(stopped.value)
    # The gradient is of two batches.
    assert "the norm of its gradient is nan; at step 1, on videos train4, train5, train6, train7;" in message
    assert f"what led to it is in {tmp_path}/nonfinite-step1-rank0.json" in message
    assert f"{last} holds the weights before" in message
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[-1][name]), name
    name, report = only_report(tmp_path)
    assert name == "nonfinite-step1-rank0.json"
    assert (report["step"], report["epoch"], report["batch"], report["stage"]) == (1, 0, 3, "train")
    assert report["loss"] == pytest.approx(report["loss_again"])
    assert report["gradient_norm"] == "nan"
    assert report["gradients_not_finite"] == ["text.projection.weight"]
    assert report["weights_not_finite"] == []
    assert report["first_module_not_finite"] is None
    assert report["videos_of_accumulated_batches"] == ["train4", "train5", "train6", "train7"]
    assert [video["path"] for video in report["videos"]] == ["/v/train6.mp4", "/v/train7.mp4"]
    assert report["videos"][0]["captions"] == ["noise of train6"]
    assert report["logit_scale"] == pytest.approx(model.logit_scale.exp().item())
    assert report["learning_rates"]["clip"] == trainer.optimizers[0].param_groups[-1]["lr"]
    assert report["state_before"] == str(last)


def test_a_loss_that_is_not_finite_is_traced_to_the_module_and_the_video(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make
) -> None:
    model = small_model()
    with pytest.raises(NonFiniteError, match=r"step 1, on videos train2, train3; what led to it is in") as stopped:
        small_trainer(NonFiniteGuard(tmp_path / "absent"), NonFiniteGuard(tmp_path), limit_val_batches=0).fit(
            model, datamodule=noise_data(bad=(3,))
        )
    assert "holds the weights" not in str(stopped.value)  # none were saved
    _, report = only_report(tmp_path)
    assert [video.get("fails_alone", False) for video in report["videos"]] == [False, True]
    assert report["first_module_not_finite"] == "video.vision.embeddings.patch_embedding"
    assert report["loss_again"] == "nan"
    assert report["weights_not_finite"] == report["texts_not_finite"] == []
    # Weights that are not finite themselves are named.
    with torch.no_grad():
        model.text.text.encoder.layers[1].mlp.fc1.weight[0, 0] = float("nan")
    for path in tmp_path.glob("*.json"):
        path.unlink()
    with pytest.raises(NonFiniteError):
        small_trainer(NonFiniteGuard(tmp_path), limit_val_batches=0).fit(model, datamodule=noise_data())
    _, report = only_report(tmp_path)
    assert report["weights_not_finite"] == ["text.text.encoder.layers.1.mlp.fc1.weight"]
    assert report["first_module_not_finite"] == "text.text.encoder.layers.1.mlp.fc1"
    assert report["texts_not_finite"] == ["'noise of train0' of train0", "'noise of train1' of train1"]


@pytest.mark.parametrize("stage", ["val", "test"])
def test_an_evaluation_names_the_video_and_its_file(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make, stage: str
) -> None:
    trainer = small_trainer(NonFiniteGuard(tmp_path))
    evaluate = trainer.validate if stage == "val" else trainer.test
    with pytest.raises(NonFiniteError) as stopped:
        evaluate(small_model(), datamodule=noise_data(bad=(5,)))
    assert f"of video 5 holds NaN or infinity; video 5 is {stage}5 (/v/{stage}5.mp4); what led" in str(stopped.value)
    name, report = only_report(tmp_path)
    assert name == f"nonfinite-{stage}-step0-rank0.json"
    assert [video["video_id"] for video in report["videos"] if video.get("fails_alone")] == [f"{stage}5"]


def test_scores_that_are_not_finite_are_named_by_text_and_video(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    similarity = model.similarity

    def with_hole(text: Tensor, video: Any) -> Tensor:
        scores: Tensor = similarity(text, video)
        scores[2, 1] = float("nan")
        return scores

    monkeypatch.setitem(model.val_metrics.__dict__, "_similarity", (with_hole,))
    with pytest.raises(NonFiniteError) as stopped:
        small_trainer(NonFiniteGuard(tmp_path)).validate(model, datamodule=noise_data())
    assert "text 2 is 'noise of val2' of val2; video 1 is val1 (/v/val1.mp4)" in str(stopped.value)
    assert only_report(tmp_path)[1]["batch"] is None


def test_a_gradient_scaler_may_skip_steps_but_not_for_ever(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trainer() -> L.Trainer:
        # So high that the first gradients overflow, as they do in the first steps of every such run.
        scaler = torch.amp.GradScaler(device="cpu", init_scale=2.0**24)
        precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        built: L.Trainer = small_trainer(
            NonFiniteGuard(tmp_path), plugins=[precision], gradient_clip_val=1.0, limit_val_batches=0, max_epochs=8
        )
        return built

    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    going = trainer()
    going.fit(model, datamodule=noise_data())
    assert going.precision_plugin.scaler.get_scale() < 2.0**24  # it did skip some
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())

    monkeypatch.setattr(nonfinite, "_PATIENCE", 6)
    model = small_model()
    poison_gradient(model, monkeypatch, step=0)
    with pytest.raises(NonFiniteError, match="the norm of its gradient is nan in 6 steps in a row"):
        trainer().fit(model, datamodule=noise_data())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_norm_of_the_gradient_is_logged_before_it_is_clipped(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make
) -> None:
    wanted: list[float] = []

    class Clipped(TextVideoRetrieval):
        def configure_gradient_clipping(self, optimizer: Any, *rest: Any, **options: Any) -> None:
            wanted.append(float(torch.nn.utils.clip_grad_norm_(self.parameters(), 0.01)))

    model = small_model()
    model.__class__ = Clipped
    logger = RunCSVLogger(tmp_path)
    small_trainer(NonFiniteGuard(tmp_path), logger=logger, limit_val_batches=0, gradient_clip_val=0.01).fit(
        model, datamodule=noise_data()
    )
    with (tmp_path / "metrics.csv").open(newline="") as file:
        found = [float(row["train/grad_norm"]) for row in csv.DictReader(file) if row["train/grad_norm"]]
    assert len(found) == 8
    assert found == pytest.approx(wanted)


def test_a_report_that_cannot_be_written_hides_nothing(
    tmp_path: Path, small_model: Make, noise_data: Make, small_trainer: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NonFiniteError) as stopped:
        small_trainer(NonFiniteGuard(tmp_path / "absent"), limit_val_batches=0).fit(
            small_model(), datamodule=noise_data(bad=(0,))
        )
    assert str(stopped.value).startswith("the loss is nan; at step 0, on videos train0, train1\n")
    assert "was not written: [Errno 2]" in capsys.readouterr().err
