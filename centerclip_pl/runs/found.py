"""What a source of runs hands over, wherever the runs lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from centerclip_pl.training.results import Results


@dataclass(frozen=True)
class FoundRun:
    """A run with results.

    Args:
        name: the run's folder, or ``wandb:ENTITY/PROJECT/ID``; `read_run_ranks` takes it.
        results: the content of its ``results.json``.
        config: the content of its ``config.yaml``; None where there is none.
    """

    name: str
    results: Results
    config: Mapping[str, Any] | None


@dataclass
class Found:
    """What was found in a source.

    Args:
        runs: those with results, in the order of their names.
        bad: ``"path: why"`` of each that cannot be read.
        unfinished: names of runs that have options but no results.
    """

    runs: list[FoundRun] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
