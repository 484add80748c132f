"""The ranks of a run's queries, wherever the run lies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from centerclip_pl.runs.table import WANDB
from centerclip_pl.training.ranks_file import FILE_NAME, read_ranks


def read_run_ranks(run: str | Path) -> pd.DataFrame:
    """The rank of every query of a run's test.

    Args:
        run: its folder, or ``wandb:ENTITY/PROJECT/ID``, as in the column ``run`` of
            :func:`centerclip_pl.runs.read_runs`. What comes from W&B is kept in the user's cache folder.

    Returns:
        ``direction`` (``"t2v"`` or ``"v2t"``), ``video_id``, ``caption`` (None in ``v2t``), ``rank`` (float64, from 1),
        and ``rank_dual_softmax`` and the like where the test computed them; text to video first, each direction in the
        order of the split's table.

    Raises:
        DataError: the run has no ranks (it was tested by an earlier version), or they cannot be read.
    """
    if str(run).startswith(WANDB):
        from centerclip_pl.runs.wandb_project import download_ranks

        return read_ranks(download_ranks(str(run)))
    return read_ranks(Path(run) / FILE_NAME)
