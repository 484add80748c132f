"""Whether a run's checkpoints will fit on the disk, asked before hours are spent on them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.optim import SGD, Optimizer
from typing_extensions import override

from centerclip_pl.files import MEBIBYTE, mount_of


class DiskSpaceCheck(Callback):
    """Warns on standard error when a training begins whose checkpoints will not fit on their disk.

    A checkpoint holds the weights and the optimizer's state; before the first step the latter is taken for two numbers
    a weight, as Adam keeps them. At the most there are as many as the callbacks keep, the one before the last, and one
    that is being written, which takes the place of another only when it is whole. Files that are there already count
    as room, because they will be replaced.
    """

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        size = checkpoint_bytes(pl_module, trainer.optimizers)
        folders: dict[Path, int] = {}
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath and "://" not in str(callback.dirpath):
                folder = Path(callback.dirpath).absolute()
                folders[folder] = folders.get(folder, 0) + _kept(callback, trainer)
        for folder, kept in folders.items():
            warning = too_little_room(folder, size, kept + 2)
            if warning is not None:
                print(f"warning: {warning}", file=sys.stderr, flush=True)


def checkpoint_bytes(module: torch.nn.Module, optimizers: list[Optimizer]) -> int:
    """About how many bytes a checkpoint of a training takes: weights, buffers and the optimizers' state."""
    total = sum(tensor.nbytes for tensor in module.state_dict().values() if isinstance(tensor, Tensor))
    for optimizer in optimizers:
        held = sum(_bytes(state) for state in optimizer.state.values())
        if not held and not isinstance(optimizer, SGD):
            held = 2 * sum(weight.nbytes for group in optimizer.param_groups for weight in group["params"])
        total += held
    return total


def too_little_room(folder: Path, size: int, count: int) -> str | None:
    """What to say where so many files do not fit; None where they do, or where that cannot be known.

    Args:
        folder: for the files; it may not be there yet.
        size: bytes of each.
        count: how many of them there will be at the most, those that are there included.
    """
    try:
        there = sum(path.stat().st_size for path in folder.glob("*.ckpt"))
        place = mount_of(folder)
        free = shutil.disk_usage(place).free
    except OSError:
        return None
    if free + there >= size * count:
        return None
    return (
        f"the checkpoints need up to {size * count / MEBIBYTE:,.1f} MiB ({count} of {size / MEBIBYTE:,.1f} MiB), but "
        f"only {(free + there) / MEBIBYTE:,.1f} MiB are there for them on the file system of {place}\n"
        "  -> make room, or name a folder on another disk with --run_dir=FOLDER"
    )


def _kept(callback: ModelCheckpoint, trainer: Trainer) -> int:
    """How many checkpoints a callback keeps in the end."""
    kept = callback.save_top_k
    return kept if kept >= 0 else max(1, trainer.max_epochs or 1)


def _bytes(state: Any) -> int:
    return sum(value.nbytes for value in state.values() if isinstance(value, Tensor))
