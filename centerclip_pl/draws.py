"""Random draws of a training step: they follow from the run's seed, the step and the place in the global batch.

So they are the same in a run that came back from a kill, on any number of processes, and whether a batch is embedded
whole or in chunks.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

_BITS = 2**63
TOKENS, PAIRS = 0, 1
"""What is drawn for: see `uniform`."""


@dataclass(frozen=True)
class Rows:
    """Which rows of which global batch are being computed."""

    step: tuple[int, ...]
    """The run's seed, the epoch, the batch in it."""
    first: int = 0
    """The place of the first row in the global batch."""


_rows: ContextVar[Rows | None] = ContextVar("rows", default=None)


@contextmanager
def drawing_for(rows: Rows | None) -> Iterator[None]:
    """Inside, :func:`uniform` draws for these rows; None: from torch's own generator, as without this."""
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


def rows_behind(offset: int) -> Rows | None:
    """The rows that are being drawn for, from the `offset`-th on; None if nothing is known of them."""
    rows = _rows.get()
    return None if rows is None else replace(rows, first=rows.first + offset)


def same_draws_again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What ``torch.utils.checkpoint`` asks for as ``context_fn``: its second forward pass draws as the first did.

    Where no rows are known, torch's own generator is used, whose state ``checkpoint`` itself restores.
    """
    return nullcontext(), drawing_for(_rows.get())


def uniform(rows: int, shape: Sequence[int], device: torch.device | str, *, part: Sequence[int] = ()) -> Tensor:
    """Numbers from [0, 1), of each row by itself.

    Args:
        rows: how many rows of the global batch, the first of them the one that `drawing_for` names.
        shape: of one row.
        device: where to draw; another kind of device draws other numbers.
        part: whole numbers, from 0 on: what else is drawn for the same row has others here. The first says for what:
            `TOKENS` or `PAIRS`.

    Returns:
        float32 ``[rows, *shape]``.
    """
    known = _rows.get()
    if known is None or rows == 0:
        return torch.rand(rows, *shape, device=device)
    generator = torch.Generator(device)
    drawn = []
    for row in range(known.first, known.first + rows):
        generator.manual_seed(mixed_seed(*known.step, row, *part))
        drawn.append(torch.rand(*shape, generator=generator, device=device))
    return torch.stack(drawn)


def mixed_seed(*parts: int) -> int:
    """One seed of several whole numbers, from 0 on: near ones give unrelated seeds."""
    low, high = np.random.SeedSequence(parts).generate_state(2).tolist()
    return (high << 32 | low) % _BITS


def seed_everywhere(seed: int) -> None:
    """Sets torch's generators (of all devices), NumPy's and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the one that other code may use
    random.seed(seed)


def seed_of_run(world_size: int) -> int:
    """That of ``seed_everything``; without it torch's own, or 0 where several processes must agree."""
    if "PL_GLOBAL_SEED" in os.environ:
        return int(os.environ["PL_GLOBAL_SEED"])
    return 0 if world_size > 1 else torch.initial_seed() % 2**32
