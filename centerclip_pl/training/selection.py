"""Which weights a test ran on, read off the trainer and the checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from typing_extensions import override

from centerclip_pl.training.checkpoint_files import LAST_NAME
from centerclip_pl.training.chosen import chosen_in_words
from centerclip_pl.training.results import Selection


class SelectionRule(Callback):
    """Keeps in every checkpoint by what rule the weights of its run are chosen, which a resumed run must not change.

    Args:
        rule: ``"val"``, ``"test"`` or ``"last"``; None: of a command that does not train.
    """

    def __init__(self, rule: str | None) -> None:
        self.rule = rule

    @override
    def state_dict(self) -> dict[str, str | None]:
        return {"rule": self.rule}


def recorded_rule(checkpoint: Mapping[str, Any]) -> str | None:
    """The rule that `SelectionRule` wrote into a checkpoint; None: the file does not say."""
    state = (checkpoint.get("callbacks") or {}).get(SelectionRule.__qualname__)
    return state.get("rule") if isinstance(state, dict) else None


def describe_selection(trainer: Trainer, selected_on: str | None = None) -> Selection:
    """:func:`read_selection`, with the same in words."""
    selection = read_selection(trainer, selected_on)
    return Selection(**selection, chosen=chosen_in_words(selection))


def read_selection(trainer: Trainer, selected_on: str | None = None) -> Selection:
    """How the weights that ``trainer`` is testing were chosen. To be called during or after ``trainer.test``.

    What chose a checkpoint is written in the file itself, so the answer is the same in the process that trained and in
    a later one.

    Args:
        trainer: the trainer.
        selected_on: the split whose metric chose, where the file does not say by what rule; by default the first part
            of the monitored name (``val/t2v/R@1``). To be given where the validation loader serves the test split.
    """
    path = trainer.ckpt_path
    if path is None:
        trained = trainer.global_step > 0
        return Selection(
            rule="last" if trained else "zero-shot",
            monitor=None,
            value=None,
            selected_on=None,
            epoch=trainer.current_epoch - 1 if trained else None,  # Lightning has counted the finished epoch already
            step=trainer.global_step if trained else None,
            path=None,
        )
    # The loops and the callbacks' state are wanted, not the weights: mapping the file leaves those on the disk.
    content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    chosen = _choice(content.get("callbacks", {}), trainer, Path(path))
    recorded = recorded_rule(content)
    is_last = chosen is None and Path(path).name == LAST_NAME and recorded == "last"
    if recorded is not None:  # how the run was trained, whatever the options of this test are
        selected_on = "test" if recorded == "test" else None
    monitor = None if chosen is None else chosen["monitor"]
    score = None if chosen is None else chosen["current_score"]
    return Selection(
        rule="last" if is_last else "given" if chosen is None else "best",
        monitor=monitor,
        value=None if score is None else float(score),
        selected_on=None if monitor is None else selected_on or monitor.partition("/")[0],
        epoch=content.get("epoch"),
        step=content.get("global_step"),
        path=str(path),
    )


def _choice(callbacks: Mapping[str, Any], trainer: Trainer, path: Path) -> Mapping[str, Any] | None:
    """The state of the ModelCheckpoint whose best checkpoint the file is; None if it is nobody's best.

    When the file was written it may have been the best and have been surpassed since, which only the trainer knows,
    if it is the one that trained.
    """
    known = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.best_model_path]
    if any(c.monitor for c in known) and not any(_same(path, c.best_model_path) for c in known if c.monitor):
        return None
    for key, state in callbacks.items():
        monitors = key.startswith(ModelCheckpoint.__qualname__) and state.get("monitor")
        if monitors and Path(state.get("best_model_path", "")).name == path.name:
            return state
    return None


def _same(a: Path, b: str) -> bool:
    return a.resolve() == Path(b).resolve()
