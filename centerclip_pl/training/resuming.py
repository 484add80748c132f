"""What it takes to come back: a checkpoint of the last epoch, and folders that may have moved meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

LAST_NAME = "last.ckpt"
_ASKED_TO_STOP = (KeyboardInterrupt, SIGTERMException)


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: the state after the last epoch, or at the step at which the user (or SLURM) stopped the run.

    A run that ends by an error of its own leaves the checkpoint before the error, not the state that led to it.

    Args:
        dirpath: the folder.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(
            dirpath,
            filename=LAST_NAME.removesuffix(".ckpt"),
            save_on_train_epoch_end=True,
            save_on_exception=True,
            enable_version_counter=False,
        )

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, _ASKED_TO_STOP):
            super().on_exception(trainer, pl_module, exception)


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
            state["best_k_models"] = {self._here(path): score for path, score in state["best_k_models"].items()}

    def _here(self, path: str) -> str:
        return str(self.dirpath / Path(path).name) if path else path


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
        saves = isinstance(exception, _ASKED_TO_STOP) and not trainer.sanity_checking  # LastCheckpoint comes after this
        if saves or self.last.is_file():
            what = f"the same command with --run_dir={self.run_dir} goes on from there"
            print(f"stopped at step {trainer.global_step}; {what}", file=sys.stderr, flush=True)
