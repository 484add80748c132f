"""Comparing texts with videos: similarity, loss, ranks and metrics. Needs torch, torchmetrics and transformers."""

from centerclip_pl.retrieval.gather import gather_with_grad, rows_before
from centerclip_pl.retrieval.heads import (
    HEADS,
    Head,
    MeanPooling,
    SequentialLSTM,
    SequentialTransformer,
    TightTransformer,
    make_head,
)
from centerclip_pl.retrieval.loss import symmetric_cross_entropy
from centerclip_pl.retrieval.metrics import RetrievalMetrics, retrieval_metrics
from centerclip_pl.retrieval.postprocessing import QueryBank, dual_softmax, qb_norm
from centerclip_pl.retrieval.ranks import Ranks, ranks_from_matrix, ranks_in_chunks
from centerclip_pl.retrieval.similarity import cosine_logits, pool_segments

__all__ = [
    "HEADS",
    "Head",
    "MeanPooling",
    "QueryBank",
    "Ranks",
    "RetrievalMetrics",
    "SequentialLSTM",
    "SequentialTransformer",
    "TightTransformer",
    "cosine_logits",
    "dual_softmax",
    "gather_with_grad",
    "make_head",
    "pool_segments",
    "qb_norm",
    "ranks_from_matrix",
    "ranks_in_chunks",
    "retrieval_metrics",
    "rows_before",
    "symmetric_cross_entropy",
]
