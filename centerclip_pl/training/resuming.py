"""What it takes to come back: the last checkpoint that is whole, and folders that may have moved meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from centerclip_pl.errors import CheckpointError
from centerclip_pl.training.checkpoint_files import (
    LAST_NAME,
    PREVIOUS_NAME,
    put_previous_in_place,
    remove_parts,
)
from centerclip_pl.training.checkpoints import read_checkpoint
from centerclip_pl.training.loggers import RunCSVLogger


def last_good_checkpoint(folder: str | Path, *, mend: bool) -> tuple[Path, dict[str, Any]] | None:
    """What a training in this folder goes on from: ``last.ckpt``, or the one before it where that is damaged.

    Args:
        folder: of the checkpoints.
        mend: set a damaged one aside, and remove what a killed process has left half written; for one process of a
            run.

    Returns:
        The file and its content; None: no training has written one here.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    last, previous = Path(folder) / LAST_NAME, Path(folder) / PREVIOUS_NAME
    if mend:
        remove_parts(Path(folder))
    there = [path for path in (last, previous) if path.is_file()]
    for path in there:
        try:
            content = read_checkpoint(path)
        except CheckpointError as error:
            print(f"note: {error.problem}", file=sys.stderr, flush=True)
            continue
        if mend and path == previous:
            put_previous_in_place(last)
            path = last
        return path, content
    if there:
        best = Path(folder) / "best.ckpt"
        raise CheckpointError(
            f"{folder}: {' and '.join(path.name for path in there)} cannot be used, so this run cannot go on",
            (f"begin again from --ckpt_path={best}, or " if best.is_file() else "")
            + "remove the folder, or name another one (--run_dir=FOLDER), to begin anew",
        )
    return None


class ContinuedMetrics(Callback):
    """Lets ``metrics.csv`` forget what a killed run had logged behind the checkpoint that it goes on from."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_at(trainer, trainer.global_step)

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":  # also where nothing is left to train
            self._begin_at(trainer, checkpoint["global_step"])

    @staticmethod
    def _begin_at(trainer: Trainer, step: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger) and trainer.is_global_zero:
                logger.begin_at(step)


class MovedCheckpoints(Callback):
    """Lets a run go on whose folder was moved or copied: remembered paths are those of the folder it is in now.

    Args:
        dirpath: the folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self.dirpath = Path(dirpath).absolute()

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # A test has a folder of its own, and leaves the checkpoint's where it is; but for one that follows a training.
        path = trainer.ckpt_path
        if trainer.state.fn != "fit" and (path is None or Path(path).absolute().parent != self.dirpath):
            return
        # Before Lightning gives the callbacks their states, of which it drops some if the folder differs.
        for state in checkpoint.get("callbacks", {}).values():
            if not isinstance(state, dict) or "best_model_path" not in state:
                continue
            state["dirpath"] = str(self.dirpath)
            for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                state[key] = self._here(state[key])
            best = {self._here(path): score for path, score in state["best_k_models"].items()}
            state["best_k_models"] = {path: score for path, score in best.items() if path}

    def _here(self, path: str) -> str:
        name = Path(path).name
        return str(self.dirpath / name) if name not in ("", "..") else ""  # Lightning removes what it remembers


class SayHowToResume(Callback):
    """When a training is stopped, says how to go on.

    Args:
        run_dir: the run's folder.
        dirpath: the folder of its checkpoints.
    """

    def __init__(self, run_dir: Path, dirpath: str) -> None:
        self.run_dir = run_dir
        self.last = Path(dirpath) / LAST_NAME

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not trainer.is_global_zero or trainer.state.fn != "fit":
            return
        if self.last.is_file():
            what = f"the same command with --run_dir={self.run_dir} goes on from its last checkpoint"
            print(f"stopped at step {trainer.global_step}; {what}", file=sys.stderr, flush=True)
