"""One run by its name, with all that its files say."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.runs.found import FoundRun
from centerclip_pl.runs.local import RESULTS, find_local
from centerclip_pl.runs.table import WANDB


def read_run(run: str | Path) -> FoundRun:
    """Results and options of a run.

    Args:
        run: its folder, or ``wandb:ENTITY/PROJECT/ID``, as in the column ``run`` of
            :func:`centerclip_pl.runs.read_runs`.

    Raises:
        DataError: there is no such run, it has no results, or they cannot be read.
    """
    if str(run).startswith(WANDB):
        from centerclip_pl.runs.wandb_project import find_wandb

        found = find_wandb(str(run))
    else:
        found = find_local(Path(run) / RESULTS)
    if found.bad:
        raise DataError(found.bad[0], "mend the file, or test again")
    if not found.runs:
        raise DataError(f"{run} has no results", "let the run end, or test its checkpoint")
    return found.runs[0]


def newest_checkpoint(runs: pd.DataFrame, method: str = "kmedoids") -> Path | None:
    """``checkpoints/best.ckpt`` of the newest run of a method that has one in a folder; None where there is none.

    Args:
        runs: of :func:`centerclip_pl.runs.read_runs`.
        method: its name in ``experiments/methods``.
    """
    newest_first = runs[runs["method"] == method].sort_values("created", ascending=False, kind="stable")
    for run in newest_first["run"]:
        file = Path(run) / "checkpoints" / "best.ckpt"
        if not str(run).startswith(WANDB) and file.is_file():
            return file
    return None
