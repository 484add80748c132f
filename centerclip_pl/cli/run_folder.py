"""A folder for each run."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from centerclip_pl.errors import ConfigError

_INHERITED = "CENTERCLIP_RUN_DIR"


def new_run_dir(base: Path, *names: str | None) -> Path:
    """Makes a folder ``base/NAMES.../DATE-TIME`` that no other run has.

    Processes that this one starts (the other ranks of a distributed run) get the same folder.

    Raises:
        ConfigError: if several processes were started from outside: they cannot agree on a name.
    """
    if _INHERITED in os.environ:
        return Path(os.environ[_INHERITED])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        raise ConfigError(
            "several processes were started, and each would make a run folder of its own",
            "name one for all of them with --run_dir=FOLDER",
        )
    parent = base.joinpath(*(re.sub(r"[^\w.+-]+", "-", name) for name in names if name))
    parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ["", *(f"-{n}" for n in range(2, 1000))]:
        folder = parent / f"{stamp}{suffix}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        os.environ[_INHERITED] = str(folder)
        return folder
    raise ConfigError(f"{parent} has too many runs of this second", "name another with --run_dir=FOLDER")


def current_run_dir() -> Path | None:
    """The folder that :func:`new_run_dir` made for this process's run, until :func:`forget_run_dir`; None: none."""
    folder = os.environ.get(_INHERITED)
    return Path(folder) if folder else None


def remove_if_empty() -> None:
    """Removes the folder that this process made, and those above it, as far as they are empty."""
    folder = Path(os.environ.get(_INHERITED, "/"))
    for candidate in (folder, *folder.parents):
        if candidate == Path() or not candidate.is_dir() or any(candidate.iterdir()):
            return
        candidate.rmdir()


def forget_run_dir() -> None:
    """Lets the next run of this process have a folder of its own; not in the other ranks of a run, which inherit it."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.environ.pop(_INHERITED, None)
