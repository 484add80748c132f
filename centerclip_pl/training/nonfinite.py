"""A run that meets NaN or infinity ends before its weights do, and leaves what is needed to find out why."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from centerclip_pl.errors import CenterCLIPError, NonFiniteError
from centerclip_pl.files import replacing
from centerclip_pl.training.nonfinite_report import Names, diagnose, names_of, plain

_PATIENCE = 25
"""Steps in a row that a gradient scaler may skip: it halves its scale each time, from 65536 to far below 1, where no
gradient that is merely large overflows float16."""
_NAMED = re.compile(r"\b(text|video) (\d+)\b(?! of the batch)")
_STAGES = {"validate": "val", "sanity_check": "val", "fit": "train"}


class NonFiniteGuard(Callback):
    """Ends a training whose gradient is not finite, and writes down what led to any `NonFiniteError`.

    The gradient's norm (L2, over all parameters, of the accumulated gradient before it is clipped) is looked at before
    each step of the optimizer, and logged as ``train/grad_norm``. With 16-bit precision and a gradient scaler, single
    steps with infinite gradients are the scaler's own and are skipped; many in a row end the run.

    The file is ``<run_dir>/nonfinite-step<N>-rank<R>.json``, of a process that met the error: step, epoch, loss, logit
    scale, learning rates, gradient norm, the parameters and gradients that are not finite, the first module whose
    output is not (found by a second forward pass over the batch), and its videos with their paths and captions; those
    that fail also when they are alone are marked. The error's message names the file.

    Args:
        run_dir: the run's folder.
        last: ``last.ckpt``, which holds the state before; None where none is written.
    """

    def __init__(self, run_dir: str | Path, last: str | Path | None = None) -> None:
        self.run_dir = Path(run_dir)
        self.last = None if last is None else Path(last)
        self._batch: Any = None
        self._batch_idx: int | None = None
        self._accumulated: list[Tensor] = []  # ids of the videos whose gradients are summed, on their device
        self._loss: Tensor | None = None
        self._norm: Tensor | None = None
        self._skipped = 0

    # What is going on ----------------------------------------------------------------------------------------------

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._begin(batch, batch_idx)
        self._accumulated.append(batch["video_ids"])

    @override
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._loss = loss.detach()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch = None  # it may fill much of a GPU

    @override
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._begin(batch, batch_idx)

    @override
    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._begin(batch, batch_idx)

    @override
    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        self._batch = None

    @override
    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        self._batch = None

    def _begin(self, batch: Any, batch_idx: int) -> None:
        self._batch, self._batch_idx = batch, batch_idx
        self._loss = self._norm = None

    # The gradient --------------------------------------------------------------------------------------------------

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # Of as many numbers as there are parameters, in some kernels; then one wait for the device.
        self._norm = torch.nn.utils.get_total_norm(gradients)
        finite = bool(torch.isfinite(self._norm))
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._skipped = 0 if finite else self._skipped + 1
        if finite:
            pl_module.log("train/grad_norm", self._norm, on_step=True, on_epoch=False, batch_size=1)
        elif scaler is None or self._skipped >= _PATIENCE:
            many = f" in {self._skipped} steps in a row" if scaler is not None else ""
            names = Names(trainer, "train")
            videos = ", ".join(dict.fromkeys(name for ids in self._accumulated for name in names.videos(ids.tolist())))
            raise NonFiniteError(
                f"the loss is {plain(self._loss_of(trainer))}, but the norm of its gradient is "
                f"{self._norm.item()}{many}; at step {trainer.global_step}, on videos {videos}",
                "go on in 32-bit precision, or lower the learning rate in a new run",
            )
        self._accumulated.clear()

    def _loss_of(self, trainer: Trainer) -> Tensor | None:
        """The loss as the module returned it; what goes backward is its share of the accumulation, and scaled."""
        if self._loss is None:
            return None
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        return self._loss * trainer.accumulate_grad_batches / scale

    # The end -------------------------------------------------------------------------------------------------------

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, NonFiniteError):
            return
        stage = _stage_of(trainer)
        names = Names(trainer, stage)
        problem = exception.problem
        # The videos of a training batch are in the message already.
        if stage != "train":
            problem = "; ".join([problem, *_who(problem, names)])
        path = self.run_dir / self._file_name(trainer, stage)
        try:
            report = self._report(trainer, pl_module, exception, names)
            failing = [video for video in report["videos"] if video.get("fails_alone")]
            if stage != "train" and problem == exception.problem and failing:
                problem += "; by itself so " + ("does " if len(failing) == 1 else "do ")
                problem += ", ".join(names.described(video["row"]) for video in failing[:3])
            with replacing(path) as part:
                part.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        except Exception as error:  # whatever is wrong with the report, the error it is about matters more
            print(f"note: {path} was not written: {error}", file=sys.stderr, flush=True)
        else:
            problem += f"; what led to it is in {path}"
        step = exception.next_step
        if stage == "train" and self.last is not None and self.last.is_file():
            before = f"{self.last} holds the weights before"
            step = before if step is None else f"{step}; {before}"
        CenterCLIPError.__init__(exception, problem, step)

    def _file_name(self, trainer: Trainer, stage: str) -> str:
        within = "" if stage == "train" else f"{stage}-"
        return f"nonfinite-{within}step{trainer.global_step}-rank{trainer.global_rank}.json"

    def _report(self, trainer: Trainer, module: LightningModule, error: NonFiniteError, names: Names) -> dict[str, Any]:
        rates = {
            str(group.get("name", number)): group["lr"]
            for optimizer in trainer.optimizers
            for number, group in enumerate(optimizer.param_groups)
        }
        scale = getattr(module, "logit_scale", None)
        report: dict[str, Any] = {
            "what": error.problem,
            "stage": names.split,
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "batch": None if self._batch is None else self._batch_idx,
            "rank": trainer.global_rank,
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
            "learning_rates": rates,
            "logit_scale": None if scale is None else plain(scale.detach().exp()),
            "loss": plain(self._loss_of(trainer)),
            "gradient_norm": plain(self._norm),
            "weights_not_finite": list(names_of(dict(module.named_parameters()))),
            "gradients_not_finite": list(names_of({n: p.grad for n, p in module.named_parameters()})),
            "state_before": str(self.last) if self.last is not None and self.last.is_file() else None,
            "first_module_not_finite": None,
            "videos": [],
        }
        if names.split == "train" and len(self._accumulated) > 1:
            rows = [row for ids in self._accumulated for row in ids.tolist()]
            report["videos_of_accumulated_batches"] = list(dict.fromkeys(names.videos(rows)))
        if self._batch is not None:
            context = trainer.precision_plugin.forward_context()
            report |= diagnose(cast(Any, module), self._batch, names, context)
        return report


def _stage_of(trainer: Trainer) -> str:
    """The split that the error is about: ``train``, ``val`` or ``test``."""
    stage = trainer.state.stage
    word = "fit" if stage is None or trainer.training else str(stage.value)
    return _STAGES.get(word, word)


def _who(problem: str, names: Names) -> Iterator[str]:
    """The names of the numbers in a message of the metrics, which know numbers alone."""
    for kind, number in dict.fromkeys(_NAMED.findall(problem)):
        what = names.described(int(number)) if kind == "video" else names.described_text(int(number))
        if what:
            yield f"{kind} {number} is {what}"
