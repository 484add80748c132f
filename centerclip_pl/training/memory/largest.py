"""The largest batch whose training step fits on a GPU, found by predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from centerclip_pl.training.memory.step import Training, predict

GIGABYTE = 10**9
"""As vendors count, or a little less than they give: a card of 16 GB has 16 to 17 times as much."""
GPUS = (16, 24, 40, 80)
"""GB."""

CONTEXT_BYTES = 800 * 10**6
"""Of a GPU, for the CUDA context, kernels and the libraries' own buffers."""
SHARE_LOST = 0.05
"""Of a GPU, for what the allocator cannot use again, workspaces inside of operations, and NCCL."""

MOST_VIDEOS = 4096
"""The search ends here."""
_TURNS_BY_LINE = 5
MOST_VIDEOS_IN_PAIRS = 512
"""Likewise, where each pair of text and video passes through a network."""


def usable(gigabytes: float) -> int:
    """Bytes of a GPU of so many GB that tensors may take: less 0.8 GB and 5 %."""
    return int(gigabytes * GIGABYTE * (1 - SHARE_LOST)) - CONTEXT_BYTES


@dataclass(frozen=True)
class Fit:
    """What fits on a GPU."""

    gigabytes: int
    """Of the GPU."""
    batch_size: int
    """Videos of a process; 0: not even one fits."""
    peak: int | None
    """Bytes, predicted for that batch; None where none fits."""
    at_least: bool = False
    """The search ended there: larger ones may fit."""


def largest_batches(training: Training, gpus: Sequence[int] = GPUS) -> list[Fit]:
    """For each GPU the largest batch of a process that fits.

    The peak is nearly affine in the batch: a line through two predictions gives the answer, which is predicted in turn.
    It fits, and one video more would not, by the line from there.

    Args:
        training: what is trained; its batch size is the first that is looked at.
        gpus: GB of each.
    """
    most = MOST_VIDEOS_IN_PAIRS if training.model.get("head") == "tightTransf" else MOST_VIDEOS
    known: dict[int, int] = {}

    def peak(batch: int) -> int:
        if batch not in known:
            known[batch] = predict(replace(training, batch_size=batch)).peak
        return known[batch]

    first = min(max(training.batch_size, 2), most)
    peak(first), peak(max(first // 2, 1))
    found = []
    for gigabytes in gpus:
        batch = _largest(peak, known, usable(gigabytes), most)
        found.append(Fit(gigabytes, batch, known.get(batch), at_least=batch == most))
    return found


def _largest(peak: Callable[[int], int], known: dict[int, int], room: int, most: int) -> int:
    """The largest batch from 0 to `most` whose peak is at most `room`; `known` holds two peaks at least."""
    for turn in count():
        fits = max((batch for batch, size in known.items() if size <= room), default=0)
        too_large = min((batch for batch, size in known.items() if size > room), default=most + 1)
        guess, slope = _by_line(known, room)
        if turn >= _TURNS_BY_LINE and too_large - fits > 1:  # not affine: halve what is left, or double
            guess = min((fits + too_large) // 2, 2 * fits + 1)
        guess = min(max(guess, fits), too_large - 1)
        if too_large - fits <= 1 or (guess == fits > 0 and known[fits] + slope > room):
            return fits
        peak(max(guess, fits + 1))
    raise AssertionError("unreachable")


def _by_line(known: dict[int, int], room: int) -> tuple[int, float]:
    """The batch at which the line through the two known ones nearest to it reaches `room`, and bytes a video."""
    nearest = sorted(known.items(), key=lambda entry: abs(entry[1] - room))[:2]
    (low, least), (high, highest) = sorted(nearest)
    if highest <= least:
        return 2 * max(known), 0.0
    slope = (highest - least) / (high - low)
    return int(low + (room - least) / slope), slope
