"""What an evaluation collects: embeddings of texts and videos with their ids, each once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval.cosines import Cosines
from centerclip_pl.retrieval.ranks import Ranks, ranks_in_chunks
from centerclip_pl.retrieval.screening import ranks_of_cosines
from centerclip_pl.types import VideoEmbedding

Similarity = Callable[[Tensor, VideoEmbedding], Tensor]
"""Texts ``[Q, D]`` and videos -> scores ``[Q, B]``, higher is better."""

Score = Callable[[slice], Tensor]
"""A slice of the videos -> scores ``[Q, c]``."""

# Without a chunk size: so many videos at a time, but not more than so many pairs, 256 MiB of float32.
_VIDEOS = 1024
_PAIRS = 2**26
_TEXTS_AT_A_TIME = 1024


@dataclass(frozen=True)
class Gallery:
    """Texts and videos, sorted by id, so that nothing depends on the order in which they came."""

    text: Tensor
    """float32 ``[Q, D]``."""
    text_ids: Tensor
    """int64 ``[Q]``, ascending, on the CPU like all ids."""
    own_video: Tensor
    """int64 ``[Q]``: position in `video_ids` of each text's own video."""
    video: VideoEmbedding
    """float32 ``[V, S, D]`` and mask ``[V, S]``."""
    video_ids: Tensor
    """int64 ``[V]``, ascending."""

    def of_texts(self, positions: Tensor) -> Gallery:
        """The same videos with the texts at `positions`, int64 ``[q]``, in that order."""
        rows = positions.to(self.text.device)
        return replace(
            self, text=self.text[rows], text_ids=self.text_ids[positions], own_video=self.own_video[positions]
        )

    def scorer(self, similarity: Similarity | None, device: torch.device) -> Score:
        """A function from a slice of the videos to their scores ``[Q, c]``.

        Args:
            similarity: None for the cosines of texts and pooled segments; see `centerclip_pl.retrieval.cosines`.
            device: where `similarity` works.
        """
        if similarity is None:
            return Cosines(self.text, self.video).block
        text = self.text.to(device)

        def score(part: slice) -> Tensor:
            return similarity(text, VideoEmbedding(*(tensor[part].to(device) for tensor in self.video)))

        return score

    @torch.no_grad()
    def rank_by_cosine(self, chunk_size: int | None) -> Ranks:
        """Ranks of all queries by the scores that ``scorer(None)`` gives, without computing all of them."""
        return ranks_of_cosines(Cosines(self.text, self.video), self.own_video, chunk_size)

    def rank(self, score: Score, chunk_size: int | None) -> Ranks:
        """Ranks of all queries; see `centerclip_pl.retrieval.ranks`."""
        return ranks_in_chunks(
            score,
            len(self.text_ids),
            len(self.video_ids),
            self.own_video,
            self._chunk(chunk_size),
            text_ids=self.text_ids,
            video_ids=self.video_ids,
        )

    @torch.no_grad()
    def all_scores(self, score: Score, chunk_size: int | None) -> Tensor:
        """Scores ``[Q, V]`` of all pairs, on the CPU."""
        videos, chunk = len(self.video.segments), self._chunk(chunk_size)
        first = score(slice(0, min(chunk, videos))).cpu()
        if chunk >= videos:
            return first
        scores = first.new_empty(len(first), videos)
        scores[:, :chunk] = first
        for start in range(chunk, videos, chunk):
            part = slice(start, min(start + chunk, videos))
            scores[:, part] = score(part).cpu()
        return scores

    @torch.no_grad()
    def best(self, score: Score, chunk_size: int | None, k: int) -> Tensor:
        """Ids ``[Q, k]`` of each text's best videos; equal scores in the order of ids."""
        texts, videos, chunk = len(self.text_ids), len(self.video_ids), self._chunk(chunk_size)
        best, columns = torch.empty(texts, 0), torch.empty(texts, 0, dtype=torch.int64)
        for start in range(0, videos, chunk):
            stop = min(start + chunk, videos)
            scores = score(slice(start, stop)).cpu()
            rows = [slice(first, first + _TEXTS_AT_A_TIME) for first in range(0, texts, _TEXTS_AT_A_TIME)]
            merged = [_merge(best[some], columns[some], scores[some], start, k) for some in rows]
            best, columns = torch.cat([part[0] for part in merged]), torch.cat([part[1] for part in merged])
        return self.video_ids[columns]

    def _chunk(self, chunk_size: int | None) -> int:
        return chunk_size or max(1, min(_VIDEOS, _PAIRS // max(1, len(self.text))))

    def text_positions(self, text_ids: Tensor) -> Tensor:
        """Positions ``[q]`` of texts by id; ConfigError for one that is not there."""
        text_ids = text_ids.cpu()
        positions = torch.searchsorted(self.text_ids, text_ids).clamp_max(len(self.text_ids) - 1)
        absent = text_ids[self.text_ids[positions] != text_ids]
        if len(absent):
            raise ConfigError(
                f"there is no text {int(absent[0])} among the {len(self.text_ids)} texts collected"
                + (f", and {len(absent) - 1} more are absent" if len(absent) > 1 else ""),
                "pass values of text_ids that went into update()",
            )
        return positions


def keeping(score: Score) -> Score:
    """The same scores, in the CPU's memory; the second time a slice is asked for, they are not computed again."""
    kept: dict[tuple[int, int], Tensor] = {}

    def remembered(part: slice) -> Tensor:
        key = part.start, part.stop
        if key not in kept:
            kept[key] = score(part).cpu()
        return kept[key]

    return remembered


def of_texts(score: Score, positions: Tensor) -> Score:
    """The rows of some texts, int64 ``[q]``, in that order."""
    return lambda part: score(part)[positions]


def _merge(best: Tensor, columns: Tensor, scores: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
    """The best so far ``[q, j]``, their columns, and the scores ``[q, c]`` from column `start` on -> the best."""
    best = torch.cat([best, scores], dim=1)
    new = torch.arange(start, start + scores.shape[1]).expand(len(scores), -1)
    columns = torch.cat([columns, new], dim=1)
    # Stable: among equals those that stood before, whose ids are lower, stay before.
    order = best.argsort(dim=1, descending=True, stable=True)[:, :k]
    return best.gather(1, order), columns.gather(1, order)
