"""A folder for each run, the same one for all of its processes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed import Store

_INHERITED = "CENTERCLIP_RUN_DIR"
_NAME_IT = "name one for all of them with --run_dir=FOLDER"
_PATIENCE = timedelta(minutes=5)
_agreements = 0
"""Of this process so far; the processes of a launch do the same, so that they count alike."""


def new_run_dir(base: Path, *names: str | None) -> Path:
    """Makes a folder ``base/NAMES.../DATE-TIME`` that no other run has; the same one in all processes of a launch.

    Processes that this one starts (the other ranks of a distributed run) inherit it. Those that torchrun started ask
    the first of them, through torchrun's own store. Those that SLURM started call it ``slurm-JOB`` (``slurm-JOB.STEP``
    for a later step of the job) instead: a job that is queued again finds its folder there, see `requeued_run_dir`.
    On several machines, all must see the same file system.

    Raises:
        ConfigError: if several processes were started in another way: they cannot agree on a name.
    """
    if _INHERITED in os.environ:
        return Path(os.environ[_INHERITED])
    parent = runs_folder(base, *names)
    if _by_torchrun():
        folder = _agreed(lambda: _dated(parent))
    elif _by_slurm():
        folder = parent / _slurm_name()
        folder.mkdir(parents=True, exist_ok=True)
    elif _by_others():
        raise ConfigError("several processes were started, and each would make a run folder of its own", _NAME_IT)
    else:
        folder = _dated(parent)
    os.environ[_INHERITED] = str(folder)
    return folder


def requeued_run_dir(base: Path, *names: str | None) -> Path | None:
    """The folder that this launch had before SLURM queued it again, or torchrun started it anew; None: there is none.

    Args:
        base, names: as for :func:`new_run_dir`.
    """
    if _by_torchrun():
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            return None
        try:
            store, key = _torchrun_store(), _agreement()
            return Path(store.get(key).decode()) if store.check([key]) else None
        except RuntimeError:  # new_run_dir meets it too, and says so
            return None
    if not _by_slurm():
        return None
    folder = runs_folder(base, *names) / _slurm_name()
    return folder if folder.is_dir() else None


def current_run_dir() -> Path | None:
    """The folder that :func:`new_run_dir` made for this process's run, until :func:`forget_run_dir`; None: none."""
    folder = os.environ.get(_INHERITED)
    return Path(folder) if folder else None


def remove_if_empty() -> None:
    """Removes the folder that this process made, and those above it, as far as they are empty."""
    folder = Path(os.environ.get(_INHERITED, "/"))
    for candidate in (folder, *folder.parents):
        try:
            if candidate == Path() or any(candidate.iterdir()):
                return
            candidate.rmdir()
        except OSError:  # another process of the run was quicker, or has put something there
            return


def forget_run_dir() -> None:
    """Lets the next run of this process have a folder of its own; not in the other ranks of a run, which inherit it."""
    if os.environ.get("LOCAL_RANK", "0") == "0" or _by_torchrun():
        os.environ.pop(_INHERITED, None)


def started_by_others() -> bool:
    """Whether torchrun, SLURM or something else started this process beside others."""
    return _by_torchrun() or _by_slurm() or _by_others()


def use_run_dir(folder: Path) -> None:
    """Lets this process and those that it starts go on in a folder that is there."""
    os.environ[_INHERITED] = str(folder)


def runs_folder(base: Path, *names: str | None) -> Path:
    """``base/NAMES...``, in which `new_run_dir` makes a folder for each run."""
    return base.joinpath(*(re.sub(r"[^\w.+-]+", "-", name) for name in names if name))


def _dated(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ["", *(f"-{n}" for n in range(2, 1000))]:
        folder = parent / f"{stamp}{suffix}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{parent} has too many runs of this second", "name another with --run_dir=FOLDER")


# By SLURM -------------------------------------------------------------------------------------------------------------


def _by_slurm() -> bool:
    """Whether srun started this process beside others; a job's script itself, or a shell in it, is one process."""
    alone = int(os.environ.get("SLURM_NTASKS", "1")) == 1
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # as Lightning tells them apart
    return not alone and not shell and "SLURM_JOB_ID" in os.environ and "SLURM_PROCID" in os.environ


def _by_others() -> bool:
    """Whether this process was started beside others in a way that says nothing of a launch; see `new_run_dir`."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(os.environ.get("NODE_RANK", "0")) > 0


def _slurm_name() -> str:
    step = os.environ.get("SLURM_STEP_ID", "0")
    return f"slurm-{os.environ['SLURM_JOB_ID']}" + ("" if step == "0" else f".{step}")


# By torchrun ----------------------------------------------------------------------------------------------------------


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def _agreed(choose: Callable[[], Path]) -> Path:
    """What the first process of the launch chose. Where torchrun starts all anew, they get what they had before."""
    global _agreements
    try:
        store, key = _torchrun_store(), _agreement()
        if os.environ["RANK"] == "0" and not store.check([key]):
            store.set(key, str(choose()))
        folder = Path(store.get(key).decode())
    except RuntimeError as error:  # torch's own errors of stores, of a connection and of time
        raise ConfigError(f"the processes cannot agree on a run folder: {error}".splitlines()[0], _NAME_IT) from error
    _agreements += 1
    return folder


def _agreement() -> str:
    return f"centerclip/run_dir/{os.environ['TORCHELASTIC_RUN_ID']}/{_agreements}"


def _torchrun_store() -> Store:
    """The store through which torchrun's processes meet; the launcher holds it, so that no process need to."""
    from torch.distributed import TCPStore

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise RuntimeError("torchrun keeps no store of its own")
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=_PATIENCE)
