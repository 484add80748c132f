"""Retrieval metrics of what was collected over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval.batches import check_batch
from centerclip_pl.retrieval.collecting import collect
from centerclip_pl.retrieval.figures import (
    KS,
    RankTable,
    ScoreTable,
    both_directions,
    check_ks,
    retrieval_metrics,
    summarise_ranks,
)
from centerclip_pl.retrieval.gallery import Gallery, Score, Similarity, keeping, of_texts
from centerclip_pl.retrieval.ranks import Ranks
from centerclip_pl.types import VideoEmbedding

__all__ = ["KS", "RankTable", "RetrievalMetrics", "ScoreTable", "retrieval_metrics", "summarise_ranks"]


class RetrievalMetrics(Metric):
    """`retrieval_metrics` of embeddings that come in batches, perhaps over several processes.

    Everything is kept (float32, on the metric's device), gathered over the processes when it is computed, freed of
    duplicates by id and sorted by id: the result does not depend on the order or size of batches or on the number of
    processes. A process may have fewer items than others, or none. Where there is a process group, all processes call
    `compute`, `compute_subset`, `ranks`, `top`, `scores` and `score` alike. The ranking is done once and kept until
    `update` or `reset`.

    Ranks by cosine are exact, those of float64 products rounded to float32 (`centerclip_pl.retrieval.cosines`), also
    of galleries whose scores would not fit into memory: beyond the embeddings, less than 0.2 GB are needed, and as much
    as the embeddings take where they have to be put together or sorted and the caller keeps them too.

    Args:
        similarity: texts ``[Q, D]`` and a `VideoEmbedding` of B videos -> scores ``[Q, B]``, higher is better; by
            default the cosine of the text and the pooled segments, in float64, on the CPU. It is asked about a chunk of
            videos at a time, and twice about most chunks if there are several, and must give the same answer again:
            the result depends on `chunk_size` as far as the similarity itself does.
        ks: for R@k.
        chunk_size: so many videos at a time; memory grows with texts x chunk (with a similarity of one's own, and for
            `top`). None: at most 1024, and at most 256 MiB of scores.
        keep_scores: keep all scores (float32, in the CPU's memory, texts x videos) once they are computed: for a
            similarity that costs more than such memory, like a network over each pair.
        **options: of `torchmetrics.Metric`. ``compute_on_cpu=True`` keeps embeddings on the CPU; with several
            processes it needs a backend that gathers CPU tensors, such as gloo.
    """

    is_differentiable = False
    higher_is_better = None  # recalls are, ranks are not
    full_state_update = False

    # States are flat: torchmetrics gathers tensors of unequal length, but only of the same number of dimensions.
    text: list[Tensor]
    text_ids: list[Tensor]
    video_of_text: list[Tensor]
    segments: list[Tensor]
    mask: list[Tensor]
    video_ids: list[Tensor]
    shapes: list[Tensor]
    _states = {
        "text": torch.float32,
        "text_ids": torch.int64,
        "video_of_text": torch.int64,
        "segments": torch.float32,
        "mask": torch.bool,
        "video_ids": torch.int64,
        "shapes": torch.int64,  # channels of texts, segments, channels of segments
    }

    def __init__(
        self,
        similarity: Similarity | None = None,
        ks: Sequence[int] = KS,
        chunk_size: int | None = None,
        keep_scores: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_ks(ks)
        if chunk_size is not None and chunk_size < 1:
            raise ConfigError(f"chunk_size is {chunk_size}, but must be at least 1")
        # In a tuple, so that a head with weights does not become a submodule, and its weights part of state_dict twice.
        self._similarity = (similarity,)
        self.ks = tuple(ks)
        self.chunk_size = chunk_size
        self.keep_scores = keep_scores
        self._score: Score | None = None
        self._ranking: tuple[Gallery, Ranks] | None = None
        for name in self._states:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self, *, text: Tensor, text_ids: Tensor, video_of_text: Tensor, video: VideoEmbedding, video_ids: Tensor
    ) -> None:
        """Adds a batch. A video and its texts may come in different batches; what comes twice counts once.

        Args:
            text: float ``[q, D]``; q may be 0.
            text_ids: int64 ``[q]``.
            video_of_text: int64 ``[q]``: the ``video_ids`` value of each text's own video.
            video: float segments ``[b, S, D]`` and mask ``[b, S]``; b may be 0. S and D are the same in all batches.
            video_ids: int64 ``[b]``.

        Raises:
            ConfigError: shapes or dtypes that do not fit.
            NonFiniteError: NaN or infinity in an embedding, or a video without any segment that counts; names its id.
        """
        segments, mask = check_batch(text, text_ids, video_of_text, video, video_ids)
        self._note_shape([text.shape[1], *segments.shape[1:]])
        self.text.append(text.detach().float().flatten())
        self.text_ids.append(text_ids)
        self.video_of_text.append(video_of_text)
        self.segments.append(segments.detach().float().flatten())
        self.mask.append(mask.flatten())
        self.video_ids.append(video_ids)

    def _note_shape(self, shape: list[int]) -> None:
        earlier = [noted.tolist() for noted in self.shapes if len(noted)]
        if not earlier:
            self.shapes.append(torch.tensor(shape, device=self.device))
        elif earlier[0] != shape:
            raise ConfigError(
                f"a batch has [text channels, segments, video channels] {shape}, an earlier one {earlier[0]}",
                "reset the metric between models",
            )

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers the states of all processes; see `torchmetrics.Metric.sync`."""
        for name, dtype in self._states.items():
            if not getattr(self, name):  # torchmetrics would send an empty float tensor, also among int64 ones
                setattr(self, name, [torch.empty(0, dtype=dtype, device=self.device)])
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, float]:
        """`retrieval_metrics` of everything that was added, in any process.

        Raises:
            DataError: nothing to rank, a text of an absent video, or a text with two videos.
            NonFiniteError: NaN among the scores; names text and video by their ids.
        """
        gallery, similarity = self._gallery(), self._similarity[0]
        if similarity is None and not self.keep_scores:
            ranks = gallery.rank_by_cosine(self.chunk_size)
        else:
            score = gallery.scorer(similarity, self.device)
            score = keeping(score) if self.keep_scores else score
            ranks = gallery.rank(score, self.chunk_size)
            self._score = score if self.keep_scores else None
        self._ranking = (gallery, ranks)
        return both_directions(ranks, self.ks)

    def compute_subset(self, text_ids: Tensor) -> dict[str, float]:
        """The ``t2v/`` metrics of some texts, among all videos.

        Args:
            text_ids: int64 ``[q]``, at least one.
        """
        if len(text_ids) == 0:
            raise ConfigError("a subset of no texts has no metrics", "pass at least one text id")
        gallery, ranks = self._ranked()
        chosen = ranks.t2v[gallery.text_positions(text_ids)]
        return {f"t2v/{name}": value for name, value in summarise_ranks(chosen, self.ks).items()}

    def ranks(self) -> RankTable:
        """The rank of each query, in both directions."""
        gallery, ranks = self._ranked()
        return RankTable(gallery.text_ids, ranks.t2v, gallery.video_ids[ranks.videos], ranks.v2t)

    def top(self, k: int, text_ids: Tensor | None = None) -> Tensor:
        """The best videos of some texts.

        Args:
            k: how many; as many as there are videos at most.
            text_ids: int64 ``[q]``; None: all texts, ordered by id.

        Returns:
            int64 ``[q, k]``: video ids, best first; equal scores in the order of their ids.
        """
        if k < 1:
            raise ConfigError(f"k is {k}, but must be at least 1")
        gallery, _ = self._ranked()
        score = self._score
        if text_ids is not None:
            texts = gallery.text_positions(text_ids)
            gallery = gallery.of_texts(texts)
            score = None if score is None else of_texts(score, texts)
        score = score or gallery.scorer(self._similarity[0], self.device)
        return gallery.best(score, self.chunk_size, k)

    def scores(self) -> ScoreTable:
        """The scores of all pairs: memory grows with texts x videos, 4 bytes a pair."""
        gallery, _ = self._ranked()
        score = self._score or gallery.scorer(self._similarity[0], self.device)
        return ScoreTable(
            gallery.all_scores(score, self.chunk_size), gallery.text_ids, gallery.video_ids, gallery.own_video
        )

    def score(self, *, text: Tensor | None = None, video: VideoEmbedding | None = None) -> Tensor:
        """The scores of other texts with the videos that were collected, or of the texts with other videos.

        Args:
            text: float ``[b, D]`` in place of the texts.
            video: float segments ``[b, S, D]`` and mask ``[b, S]`` in place of the videos.

        Returns:
            float ``[b, V]`` or ``[Q, b]`` (``[b, b']`` if both are given), on the CPU, the rest ordered by id.
        """
        gallery, _ = self._ranked()
        gallery = replace(
            gallery,
            text=gallery.text if text is None else text.detach().float().to(self.device),
            video=gallery.video if video is None else VideoEmbedding(video.segments.detach().float(), video.mask),
        )
        return gallery.all_scores(gallery.scorer(self._similarity[0], self.device), self.chunk_size)

    def __getstate__(self) -> dict[str, Any]:
        # Kept scores hang on this process's model; a copy computes its own if it needs them.
        return {**super().__getstate__(), "_score": None}

    def reset(self) -> None:
        """Forgets everything."""
        super().reset()
        self._ranking = self._score = None

    def _ranked(self) -> tuple[Gallery, Ranks]:
        self.compute()  # torchmetrics keeps its result until the next update
        assert self._ranking is not None
        return self._ranking

    def _gallery(self) -> Gallery:
        return collect({name: getattr(self, name) for name in self._states}, self._hold)

    def _hold(self, name: str, flat: Tensor) -> None:
        state = getattr(self, name)
        if isinstance(state, list):
            state[:] = [flat]  # in place: a MetricCollection may share it with another metric
        else:
            setattr(self, name, flat)
