"""What came in batches, put together: each text and video once, in the order of ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.retrieval.gallery import Gallery
from centerclip_pl.types import VideoEmbedding

State = Tensor | list[Tensor]
"""Of a metric: the batches; one tensor after a synchronisation."""


def collect(states: Mapping[str, State], hold: Callable[[str, Tensor], None]) -> Gallery:
    """The gallery of everything in the states of a `centerclip_pl.retrieval.RetrievalMetrics`.

    Args:
        states: by name.
        hold: replaces the state of a name by one tensor. It is given the gallery's own, so that nothing is there twice.

    Raises:
        ConfigError: batches of different shapes, from different processes.
        DataError: as `match`; nothing has been replaced then.
    """
    shapes = _joined(states["shapes"]).view(-1, 3).unique(dim=0).tolist() or [[0, 0, 0]]
    if len(shapes) > 1:
        raise ConfigError(
            f"processes hold embeddings with different [text channels, segments, video channels]: {shapes}",
            "evaluate the same model in all processes",
        )
    text_channels, segments, channels = shapes[0]
    text_ids, video_of_text, video_ids = (
        _joined(states[name]).cpu() for name in ("text_ids", "video_of_text", "video_ids")
    )
    texts, videos, own_video = match(text_ids, video_of_text, video_ids)
    text_ids, video_of_text, video_ids = text_ids[texts], video_of_text[texts], video_ids[videos]

    def chosen(name: str, ids: str, rows: Tensor) -> Tensor:
        state, of = states[name], states[ids]
        flat = take_rows(state, [len(of)] if isinstance(of, Tensor) else [len(batch) for batch in of], rows)
        hold(name, flat)
        return flat

    text = chosen("text", "text_ids", texts)
    hold("text_ids", text_ids.to(text.device))
    hold("video_of_text", video_of_text.to(text.device))
    shown = chosen("segments", "video_ids", videos)
    mask = chosen("mask", "video_ids", videos)
    hold("video_ids", video_ids.to(shown.device))
    video = VideoEmbedding(shown.view(len(videos), segments, channels), mask.view(len(videos), segments))
    return Gallery(text.view(len(texts), text_channels), text_ids, own_video, video, video_ids)


def take_rows(state: State, counts: list[int], chosen: Tensor) -> Tensor:
    """Some rows of all batches, in another order; a list's batches are let go as soon as they are copied.

    What is in order already is not copied. Otherwise the memory for the result is taken at once, but the system hands
    it out as it is filled, while it gets that of the batches back.

    Args:
        state: batches of rows, flattened. A list is empty afterwards.
        counts: how many rows each batch has.
        chosen: int64 ``[n]`` on the CPU: rows of all batches one after another, each at most once.

    Returns:
        Flat, on the device of the batches.
    """
    batches = [state] if isinstance(state, Tensor) else state
    total = sum(counts)
    width = sum(batch.numel() for batch in batches) // max(1, total)
    if len(batches) == 1 and len(chosen) == total and bool((chosen == torch.arange(total)).all()):
        return batches.pop()
    place = torch.full((total,), -1)
    place[chosen] = torch.arange(len(chosen))
    taken = batches[0].new_empty(len(chosen), width)
    ends = list(accumulate(counts))
    batches.reverse()
    for count, end in zip(counts, ends, strict=True):
        batch = batches.pop().view(count, width)
        places = place[end - count : end]
        if count and bool((places == places[0] + torch.arange(count)).all()) and int(places[0]) >= 0:
            taken[int(places[0]) : int(places[0]) + count] = batch
        else:
            kept = (places >= 0).nonzero()[:, 0]
            taken[places[kept].to(taken.device)] = batch[kept.to(batch.device)]
    return taken.flatten()


def first_of_each(ids: Tensor) -> Tensor:
    """Positions of the first occurrence of each value, in ascending order of the values."""
    order = ids.argsort(stable=True)
    sorted_ids = ids[order]
    new = torch.ones_like(sorted_ids, dtype=torch.bool)
    new[1:] = sorted_ids[1:] != sorted_ids[:-1]
    return order[new]


def match(text_ids: Tensor, video_of_text: Tensor, video_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which texts and videos to keep: the first of those that came twice, as from a DistributedSampler that pads.

    Args:
        text_ids, video_of_text: int64 ``[q]``, on the CPU.
        video_ids: int64 ``[v]``, on the CPU.

    Returns:
        Positions of the texts to keep, ``[Q]``; of the videos, ``[V]``; both in the order of ids. And ``[Q]``: the
        position of each text's own video among the latter.

    Raises:
        DataError: no texts or no videos; a text that came with two videos; a text of an absent video.
    """
    if len(text_ids) == 0 or len(video_ids) == 0:
        raise DataError(
            f"retrieval cannot be measured: there are {len(text_ids)} texts and {len(video_ids)} videos",
            "check that the split has captions, and that every batch is passed to update()",
        )
    texts, videos = first_of_each(text_ids), first_of_each(video_ids)
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
    return texts, videos, own_video


def _joined(state: State) -> Tensor:
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0, dtype=torch.int64)
