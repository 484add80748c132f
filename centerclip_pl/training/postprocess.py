"""After a test: what dual softmax and QB-Norm would make of its similarities, beside the test's own figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.retrieval import dual_softmax, qb_norm, ranks_from_matrix
from centerclip_pl.retrieval.metrics import RankTable, ScoreTable, summarise_ranks
from centerclip_pl.retrieval.postprocessing import require_positive_number
from centerclip_pl.training.query_bank import ACTIVE, caption_bank, sample_bank, scale_of, video_bank

if TYPE_CHECKING:
    import pandas as pd

    from centerclip_pl.types import Batch

Method = Literal["dual_softmax", "qb_norm"]
METHODS: tuple[Method, ...] = ("dual_softmax", "qb_norm")


class BankData(Protocol):
    """What :class:`PostProcessing` asks of a datamodule, for QB-Norm."""

    name: str

    def tokenizer(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """``input_ids`` and ``attention_mask``, int64 ``[q, L]``."""

    def published(self) -> dict[str, pd.DataFrame]:
        """The caption tables by split, with ``video_id`` and ``caption``, whether the videos can be used or not."""

    def captions(self, split: str) -> pd.DataFrame:
        """The same of the videos that can be used, which are checked where they have not been yet."""


Clips = Callable[[Any, Sequence[str]], "Iterable[Batch]"]
"""The datamodule and the ids of training videos -> batches of them, as an evaluation sees them."""


class PostProcessing(Callback):
    """After a test, ranks its queries once more by revised similarities, and logs the figures apart.

    They go to the loggers as ``test_transductive/METHOD/t2v/R@1`` and so on, and nowhere into ``test/...``: they depend
    on other queries (of the test for dual softmax, of the training for QB-Norm) and cannot be compared with plain
    figures. See `centerclip_pl.retrieval.postprocessing`, also for the papers. Nothing happens outside of a test.

    - Dual softmax: the module's scores times a softmax over all queries of the test. For video to text the queries are
      the videos that have texts, and a video's texts count with the best of their revised scores, as ever.
    - QB-Norm, text to video: the bank is captions of the training split; no video is decoded. Video to text, only with
      `video_bank`: videos of the training split, which have to be decoded and embedded; without it there are no
      figures of that direction.

    The module has ``test_metrics`` (`RetrievalMetrics`), ``similarity_head`` and ``logit_scale``, the datamodule is a
    :class:`BankData`. All scores of the test are held in memory at once: 4 bytes a pair of text and video, and 34 more
    while they are revised. Every process does this alike; the bank is shared out among them.

    Args:
        methods: ``"dual_softmax"``, ``"qb_norm"``, both or none.
        bank_size: queries of a bank, drawn without replacement; None, or more than there are: all.
        temperature: of the dual softmax, for the module's own scores: cosines times exp(logit scale). 1: the prior is
            the probability that the model itself gives.
        beta: QB-Norm's inverse temperature, for cosines; the authors report 20. For the head tightTransf, whose scores
            are no cosines, it multiplies the scores as they are.
        seed: of the bank's sample; the same for all runs that are to be compared.
        video_bank: whether to embed training videos, for QB-Norm from video to text.
        clips: gives them; see `centerclip_pl.data.query_bank.training_clips`.

    Attributes:
        figures: after a test, by method: ``{"t2v/R@1": ..., "v2t/MnR": ...}``.
        parameters: after a test, by method: what the figures were made with.
        ranks: after a test, by method; ``v2t`` is NaN where it was not wanted.

    Raises:
        ConfigError: an unknown method, or a value that cannot be.
    """

    def __init__(
        self,
        methods: Sequence[Method] = (),
        *,
        bank_size: int | None = None,
        temperature: float = 1.0,
        beta: float = 20.0,
        seed: int = 0,
        video_bank: bool = False,
        clips: Clips | None = None,
    ) -> None:
        for method in methods:
            if method not in METHODS:
                near = get_close_matches(str(method), METHODS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {' and '.join(METHODS)}"
                raise ConfigError(f"there is no post-processing {method!r}", hint)
        require_positive_number("temperature", temperature)
        require_positive_number("beta", beta)
        if bank_size is not None and bank_size < 1:
            raise ConfigError(f"bank_size is {bank_size}, but must be at least 1", "leave it out to take all")
        if seed < 0:
            raise ConfigError(f"the seed of the query bank is {seed}, but must be at least 0")
        if video_bank and clips is None and "qb_norm" in methods:
            raise ConfigError("video_bank is wanted, but nothing gives the videos", "pass clips")
        self.methods: tuple[Method, ...] = tuple(dict.fromkeys(methods))
        self.bank_size = bank_size
        self.temperature, self.beta, self.seed = temperature, beta, seed
        self.video_bank = video_bank
        self._clips = clips
        self._forget()

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._forget()
        if "qb_norm" in self.methods:
            data = cast(BankData, cast(Any, trainer).datamodule)
            self._training_table(data)  # before the test, not after it
            if self.video_bank:
                if trainer.local_rank == 0:  # checks the videos, if that was not done; the others find the results
                    data.captions("train")
                trainer.strategy.barrier()
                data.captions("train")

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.methods:
            return
        metrics = cast(Any, pl_module).test_metrics
        table: ScoreTable = metrics.scores()
        for method in self.methods:
            ranks = self._dual_softmax(table) if method == "dual_softmax" else self._qb_norm(trainer, pl_module, table)
            self.ranks[method] = ranks
            self.figures[method] = {
                f"{direction}/{name}": value
                for direction, of_queries in (("t2v", ranks.t2v), ("v2t", ranks.v2t))
                if not of_queries.isnan().any()
                for name, value in summarise_ranks(of_queries, metrics.ks).items()
            }
        logged = {
            f"test_transductive/{method}/{name}": value
            for method, figures in self.figures.items()
            for name, value in figures.items()
        }
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=trainer.global_step)

    def _forget(self) -> None:
        self.figures: dict[str, dict[str, float]] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        self.ranks: dict[str, RankTable] = {}

    def _dual_softmax(self, table: ScoreTable) -> RankTable:
        self.parameters["dual_softmax"] = {"temperature": self.temperature}
        # One direction after the other, so that one revised matrix is in memory at a time.
        t2v = _t2v_ranks(table, dual_softmax(table.scores, temperature=self.temperature))
        v2t = _v2t_ranks(table, dual_softmax(_of_queries(table), temperature=self.temperature))
        return _rank_table(table, t2v, v2t)

    def _qb_norm(self, trainer: Trainer, module: LightningModule, table: ScoreTable) -> RankTable:
        data = cast(BankData, cast(Any, trainer).datamodule)
        train = self._training_table(data)
        beta = self.beta / scale_of(module)  # of cosines -> of the module's scores
        captions = train["caption"].tolist()
        captions = [captions[row] for row in sample_bank(len(captions), self.bank_size, self.seed)]
        texts = caption_bank(trainer, module, captions, data.tokenizer, len(table.video_ids), beta)
        t2v = _t2v_ranks(table, qb_norm(table.scores, texts.bank, beta=beta))
        v2t, videos = None, 0
        if self.video_bank:
            assert self._clips is not None
            ids = train["video_id"].unique().tolist()
            ids = [ids[row] for row in sample_bank(len(ids), self.bank_size, self.seed)]
            clips = self._clips(data, ids[trainer.global_rank :: trainer.world_size])
            bank, videos = video_bank(trainer, module, clips, len(table.text_ids), beta)
            v2t = _v2t_ranks(table, qb_norm(_of_queries(table), bank, beta=beta))
        self.parameters["qb_norm"] = {
            "beta": self.beta,
            "k": ACTIVE,
            "bank_source": "train",
            "bank_texts": texts.size,
            "bank_videos": videos,
            "seed": self.seed,
        }
        return _rank_table(table, t2v, v2t)

    def _training_table(self, data: BankData) -> pd.DataFrame:
        tables = data.published()
        if "train" not in tables:
            raise DataError(
                f"QB-Norm takes its queries from the training split, but {data.name} has only {', '.join(tables)}",
                "leave qb_norm out of --postprocess.methods, or add training captions to the dataset",
            )
        return tables["train"]


def _of_queries(table: ScoreTable) -> Tensor:
    """Video to text ``[M, Q]``: a row a video that has texts, which alone are queries."""
    return table.scores[:, table.video_of_text.unique()].mT


def _t2v_ranks(table: ScoreTable, revised: Tensor) -> Tensor:
    """Revised scores ``[Q, V]`` -> ranks ``[Q]``."""
    return ranks_from_matrix(revised, table.video_of_text).t2v


def _v2t_ranks(table: ScoreTable, revised: Tensor) -> Tensor:
    """Revised scores ``[M, Q]`` -> ranks ``[M]``; a video's texts count with the best of their scores."""
    return ranks_from_matrix(revised.mT, table.video_of_text.unique(return_inverse=True)[1]).v2t


def _rank_table(table: ScoreTable, t2v: Tensor, v2t: Tensor | None) -> RankTable:
    """Ranks with their ids; NaN for a direction that was not wanted."""
    owners = table.video_of_text.unique()
    if v2t is None:
        v2t = torch.full((len(owners),), float("nan"), dtype=torch.float64)
    return RankTable(table.text_ids, t2v, table.video_ids[owners], v2t)
