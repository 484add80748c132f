"""Comparing texts with videos: similarity, loss, ranks and metrics. Needs torch and torchmetrics alone."""

from centerclip_pl.retrieval.gather import gather_with_grad
from centerclip_pl.retrieval.loss import symmetric_cross_entropy
from centerclip_pl.retrieval.metrics import RetrievalMetrics, retrieval_metrics
from centerclip_pl.retrieval.ranks import Ranks, ranks_from_matrix, ranks_in_chunks
from centerclip_pl.retrieval.similarity import cosine_logits, pool_segments

__all__ = [
    "Ranks",
    "RetrievalMetrics",
    "cosine_logits",
    "gather_with_grad",
    "pool_segments",
    "ranks_from_matrix",
    "ranks_in_chunks",
    "retrieval_metrics",
    "symmetric_cross_entropy",
]
