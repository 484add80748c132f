"""What W&B keeps of a test: all that ``results.json`` and ``ranks.parquet`` hold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from centerclip_pl.training.results import Results
from centerclip_pl.training.wandb_faults import surviving

if TYPE_CHECKING:
    import wandb

SUMMARY_KEY = "results"
"""Of the run's summary; its value has the form of :class:`centerclip_pl.training.results.Results`."""


def keep_results(run: wandb.Run, results: Results, ranks: str | Path) -> None:
    """Puts the results into the summary of a W&B run, and the ranks among its files.

    Of an offline run, ``wandb sync`` sends both. Whatever W&B makes of them, the files in the run's folder are there.

    Args:
        run: of W&B, online or offline.
        results: the content of ``results.json``.
        ranks: the file ``ranks.parquet``; nothing is kept of it where it is absent.
    """
    ranks = Path(ranks)
    with surviving(run):
        run.summary.update({SUMMARY_KEY: dict(results)})
        if ranks.is_file():
            # A copy: W&B would make a link, which leads nowhere once the run's folder was moved to where it is synced.
            kept = Path(run.dir) / ranks.name
            shutil.copyfile(ranks, kept)
            run.save(str(kept), base_path=run.dir, policy="now")
