"""QB-Norm's banks: training captions and training videos, embedded and compared with what a test has collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from tqdm import tqdm

from centerclip_pl.retrieval import QueryBank
from centerclip_pl.types import Batch

Tokenize = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Captions -> ``input_ids`` and ``attention_mask``, int64 ``[q, L]``."""

_CAPTIONS_AT_A_TIME = 256

ACTIVE = 1
"""k of the activation set, as in the paper."""


class Bank(NamedTuple):
    """A bank and how many queries it holds, over all processes."""

    bank: QueryBank
    size: int


def sample_bank(available: int, size: int | None, seed: int) -> list[int]:
    """Which of the ``available`` queries are in the bank, ascending: ``size`` of them, drawn without replacement.

    Args:
        available: how many there are.
        size: how many to take; None, or more than there are: all.
        seed: of the draw; the same sample in every process.
    """
    if size is None or size >= available:
        return list(range(available))
    chosen: list[int] = np.sort(np.random.default_rng(seed).choice(available, size, replace=False)).tolist()
    return chosen


def caption_bank(
    trainer: Trainer, module: Any, captions: Sequence[str], tokenize: Tokenize, candidates: int, beta: float
) -> Bank:
    """The bank for text to video. Each process embeds its share of the captions; all must call it.

    No more than the scores of a few hundred captions with all videos are in memory at a time.

    Args:
        trainer: that runs the test.
        module: has ``encode_text`` and ``test_metrics``, which holds the embeddings of the test.
        captions: the same in every process.
        tokenize: of the datamodule.
        candidates: V, videos of the test.
        beta: for the module's own scores; see `centerclip_pl.retrieval.postprocessing.qb_norm`.
    """
    mine = captions[trainer.global_rank :: trainer.world_size]

    def scores() -> Iterator[Tensor]:
        starts = range(0, len(mine), _CAPTIONS_AT_A_TIME)
        for start in _progress(starts, trainer, "query bank: captions"):
            ids, mask = tokenize(mine[start : start + _CAPTIONS_AT_A_TIME])
            with trainer.precision_plugin.test_step_context():
                text = module.encode_text(ids.to(module.device), mask.to(module.device))
            yield module.test_metrics.score(text=text)

    return _bank(scores(), candidates, beta)


def video_bank(trainer: Trainer, module: Any, clips: Iterable[Batch], candidates: int, beta: float) -> Bank:
    """The bank for video to text. All processes must call it, each with batches of its share of the videos.

    Args:
        trainer, module, beta: as in :func:`caption_bank`; the module has ``encode_video``.
        clips: batches on the CPU.
        candidates: Q, texts of the test.
    """

    def scores() -> Iterator[Tensor]:
        for batch in _progress(clips, trainer, "query bank: videos"):
            moved = trainer.strategy.batch_to_device(batch, module.device)
            with trainer.precision_plugin.test_step_context():
                video = module.encode_video(moved["frames"], moved["frame_mask"])
            yield module.test_metrics.score(video=video).mT

    return _bank(scores(), candidates, beta)


def scale_of(module: LightningModule) -> float:
    """What the module's scores divided by this are cosines; 1 where the head's scores are no cosines."""
    described: Any = module
    return 1.0 if described.similarity_head.pairwise else float(described.logit_scale.detach().double().exp())


def _bank(scores: Iterable[Tensor], candidates: int, beta: float) -> Bank:
    """Of scores ``[b, C]``, those of all processes."""
    bank, size = QueryBank.empty(candidates), 0
    for part in scores:
        bank, size = bank.combine(QueryBank.of(part, beta=beta, k=ACTIVE)), size + len(part)
    for_all: list[Bank] = [Bank(bank, size)]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for_all *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(for_all, Bank(bank, size))
    together = for_all[0].bank
    for other in for_all[1:]:  # in the order of the ranks, so that all processes have the same to the last bit
        together = together.combine(other.bank)
    return Bank(together, sum(part.size for part in for_all))


def _progress(items: Iterable[Any], trainer: Trainer, what: str) -> Iterable[Any]:
    shown = trainer.is_global_zero and trainer.progress_bar_callback is not None
    return tqdm(items, desc=what, unit="batch", leave=False, disable=not shown)
