"""Writes ``ranks.parquet`` at the end of a test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from centerclip_pl.training.ranks_file import FILE_NAME, RankedData, rank_frame, write_ranks

if TYPE_CHECKING:
    from centerclip_pl.retrieval.metrics import RankTable
    from centerclip_pl.training.postprocess import PostProcessing


class RankWriter(Callback):
    """Writes ``<run_dir>/ranks.parquet`` at the end of a test.

    Ranks by revised similarities are further columns, ``rank_dual_softmax`` and ``rank_qb_norm`` (float64; NaN in a
    direction that was not revised).

    The module has ``test_metrics.ranks()`` (`RetrievalMetrics`), the datamodule is a :class:`RankedData`.

    Args:
        run_dir: the run's folder.
        postprocessing: whose ranks are added; it comes before this among the callbacks.
    """

    def __init__(self, run_dir: str | Path, postprocessing: PostProcessing | None = None) -> None:
        self.path = Path(run_dir) / FILE_NAME
        self.postprocessing = postprocessing

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        table: RankTable = cast(Any, pl_module).test_metrics.ranks()  # all processes call it alike
        if trainer.is_global_zero:
            frame = rank_frame(table, cast(RankedData, cast(Any, trainer).datamodule))
            revised = {} if self.postprocessing is None else self.postprocessing.ranks
            for method, ranks in revised.items():  # of the same queries in the same order
                frame[f"rank_{method}"] = np.concatenate([ranks.t2v.numpy(), ranks.v2t.numpy()])
            write_ranks(self.path, frame)
