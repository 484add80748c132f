"""Which folder a training goes on in: one that was named, one of a job that was queued again, or an unfinished one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import seed_everything

from centerclip_pl.cli.run_config import reusable
from centerclip_pl.errors import ConfigError
from centerclip_pl.training.checkpoint_files import LAST_NAME, PREVIOUS_NAME
from centerclip_pl.training.run_lock import RunLock

# A run is the same one whatever these are.
_OF_NO_MATTER = ("run_dir", "ckpt_path", "weights_only", "resume", "wandb")
_NAMES = LAST_NAME, PREVIOUS_NAME


def unfinished_run(parent: Path, options: dict[str, Any]) -> Path | None:
    """The newest run that had the same options, has a checkpoint to go on from, no results, and no process.

    Args:
        parent: the folder of such runs.
        options: as ``config.yaml`` has them.
    """
    wanted = _compared(reusable(options))
    for folder in sorted(parent.glob("*/"), reverse=True):
        begun = any((folder / "checkpoints" / name).is_file() for name in _NAMES)
        unfinished = begun and not (folder / "results.json").exists()
        if unfinished and _compared(_read(folder / "config.yaml")) == wanted and not _in_use(folder):
            return folder
    return None


def _compared(options: Any) -> dict[str, Any] | None:
    if not isinstance(options, Mapping):
        return None
    return {name: value for name, value in options.items() if name not in _OF_NO_MATTER}


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError):  # a run of an older version, or somebody's own file
        return None


def _in_use(folder: Path) -> bool:
    lock = RunLock(folder)
    try:
        lock.acquire()
    except ConfigError:
        return True
    lock.release()
    return False


_held: list[RunLock] = []


def hold(run_dir: Path) -> None:
    """Keeps other runs out of a folder until :func:`let_go`, or the end of the process.

    Raises:
        ConfigError: another one is there.
    """
    lock = RunLock(run_dir)
    lock.acquire()
    _held.append(lock)


def let_go() -> None:
    """Lets other runs into the folder that this process holds, if it does."""
    while _held:
        _held.pop().release()


def keep_seed(options: Namespace, began_with: int | None) -> None:
    """A run that goes on has the seed that it began with, also where Lightning has just drawn another one.

    Args:
        options: of ``fit``.
        began_with: as the checkpoint has it; None: it does not say.

    Raises:
        ConfigError: another one was given.
    """
    asked = options.seed_everything
    if began_with is None or asked is False or asked == began_with:
        return
    if asked is not True:
        raise ConfigError(
            f"seed_everything is {asked}, but this run began with {began_with}",
            f"go on with --seed_everything={began_with}, or name another folder for a new run: --run_dir=FOLDER",
        )
    seed_everything(began_with, workers=True)
