"""What an evaluation collects: embeddings of texts and videos with their ids, each once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.retrieval.ranks import Ranks, ranks_in_chunks
from centerclip_pl.retrieval.similarity import pool_segments
from centerclip_pl.types import VideoEmbedding

Similarity = Callable[[Tensor, VideoEmbedding], Tensor]
"""Texts ``[Q, D]`` and videos -> scores ``[Q, B]``, higher is better."""

Score = Callable[[slice], Tensor]
"""A slice of the videos -> scores ``[Q, c]``."""

_TEXTS_AT_A_TIME = 4096


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

    @classmethod
    def collect(
        cls, text: Tensor, text_ids: Tensor, video_of_text: Tensor, video: VideoEmbedding, video_ids: Tensor
    ) -> Gallery:
        """Sorts by id and keeps the first of those that came several times, as from a DistributedSampler that pads.

        Raises:
            DataError: no texts or no videos; a text that came with two videos; a text of an absent video.
        """
        if len(text_ids) == 0 or len(video_ids) == 0:
            raise DataError(
                f"retrieval cannot be measured: there are {len(text_ids)} texts and {len(video_ids)} videos",
                "check that the split has captions, and that every batch is passed to update()",
            )
        text_ids, video_of_text, video_ids = text_ids.cpu(), video_of_text.cpu(), video_ids.cpu()
        texts, videos = _first_of_each(text_ids), _first_of_each(video_ids)
        unique_texts, owner = text_ids[texts], video_of_text[texts]
        unique_videos = video_ids[videos]

        clash = (owner[torch.searchsorted(unique_texts, text_ids)] != video_of_text).nonzero()[:, 0]
        if len(clash):
            raise DataError(
                f"text {int(text_ids[clash[0]])} came with two videos: {int(video_of_text[clash[0]])} and another",
                "give every caption an id of its own",
            )
        own_video = torch.searchsorted(unique_videos, owner).clamp_max(len(unique_videos) - 1)
        lost = (unique_videos[own_video] != owner).nonzero()[:, 0]
        if len(lost):
            named = ", ".join(f"text {int(unique_texts[i])} of video {int(owner[i])}" for i in lost[:3])
            raise DataError(
                f"{len(lost)} texts describe videos that are not among the {len(unique_videos)} collected: {named}"
                + (", ..." if len(lost) > 3 else ""),
                "evaluate all videos that the captions name, or drop those captions",
            )
        keep, show = texts.to(text.device), videos.to(video.segments.device)
        kept_video = VideoEmbedding(video.segments[show], video.mask[show])
        return cls(text[keep], unique_texts, own_video, kept_video, unique_videos)

    def of_texts(self, positions: Tensor) -> Gallery:
        """The same videos with the texts at `positions`, int64 ``[q]``, in that order."""
        rows = positions.to(self.text.device)
        return replace(
            self, text=self.text[rows], text_ids=self.text_ids[positions], own_video=self.own_video[positions]
        )

    def scorer(self, similarity: Similarity | None, device: torch.device) -> Score:
        """A function from a slice of the videos to their scores ``[Q, c]``.

        Args:
            similarity: None for the cosines of texts and pooled segments.
            device: where `similarity` works.
        """
        if similarity is None:
            return self._cosines()
        text = self.text.to(device)

        def score(part: slice) -> Tensor:
            return similarity(text, VideoEmbedding(*(tensor[part].to(device) for tensor in self.video)))

        return score

    def rank(self, score: Score, chunk_size: int) -> Ranks:
        """Ranks of all queries; see `centerclip_pl.retrieval.ranks`."""
        return ranks_in_chunks(
            score,
            len(self.text_ids),
            len(self.video_ids),
            self.own_video,
            chunk_size,
            text_ids=self.text_ids,
            video_ids=self.video_ids,
        )

    @torch.no_grad()
    def all_scores(self, score: Score, chunk_size: int) -> Tensor:
        """Scores ``[Q, V]`` of all pairs, on the CPU."""
        videos = len(self.video.segments)
        parts = [slice(start, min(start + chunk_size, videos)) for start in range(0, videos, chunk_size)]
        return torch.cat([score(part).cpu() for part in parts], dim=1)

    @torch.no_grad()
    def best(self, score: Score, chunk_size: int, k: int) -> Tensor:
        """Ids ``[Q, k]`` of each text's best videos; equal scores in the order of ids."""
        best = torch.empty(len(self.text_ids), 0)
        columns = torch.empty(len(self.text_ids), 0, dtype=torch.int64)
        for start in range(0, len(self.video_ids), chunk_size):
            stop = min(start + chunk_size, len(self.video_ids))
            best = torch.cat([best, score(slice(start, stop)).cpu()], dim=1)
            columns = torch.cat([columns, torch.arange(start, stop).expand(len(self.text_ids), -1)], dim=1)
            # Stable: among equals those that stood before, whose ids are lower, stay before.
            order = best.argsort(dim=1, descending=True, stable=True)[:, :k]
            best, columns = best.gather(1, order), columns.gather(1, order)
        return self.video_ids[columns]

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

    def _cosines(self) -> Score:
        """Cosines with pooled videos: products in float64, rounded to float32.

        So a score does not depend on which others are computed beside it, as it does in float32, where the shape of a
        product decides in which order it is summed: ranks are the same for every chunk size, and copies of a video tie.
        On the CPU, for float64 is not to be had on every accelerator, and slow on many.
        """
        text = F.normalize(self.text.cpu().double(), dim=-1)  # (Q, D)
        videos = pool_segments(VideoEmbedding(self.video.segments.cpu().double(), self.video.mask.cpu()))  # (V, D)

        def score(part: slice) -> Tensor:
            columns = videos[part].mT  # (D, c)
            return torch.cat([(rows @ columns).float() for rows in text.split(_TEXTS_AT_A_TIME)])

        return score


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


def _first_of_each(ids: Tensor) -> Tensor:
    """Positions of the first occurrence of each value, in ascending order of the values."""
    order = ids.argsort(stable=True)
    sorted_ids = ids[order]
    new = torch.ones_like(sorted_ids, dtype=torch.bool)
    new[1:] = sorted_ids[1:] != sorted_ids[:-1]
    return order[new]
