"""Where figures are from: the command and the versions in each run's ``results.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from centerclip_pl.errors import DataError
from centerclip_pl.runs.table import WANDB
from centerclip_pl.training.results import Results, read_results


@dataclass(frozen=True)
class Provenance:
    """What was typed, and which packages did it; empty where that is not known."""

    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def read_provenance(runs: Sequence[str]) -> dict[str, Provenance]:
    """The provenance of every run.

    Args:
        runs: values of the column ``run`` of ``read_runs``. Those of a W&B project are asked for together.

    Returns:
        By run; one whose results can no longer be read has an empty one.
    """
    found = {run: Provenance() for run in runs}
    for run in runs:
        if not run.startswith(WANDB):
            try:
                found[run] = _provenance(read_results(Path(run) / "results.json"))
            except DataError:
                continue
    for project in dict.fromkeys(run.rpartition("/")[0] for run in runs if run.startswith(WANDB)):
        from centerclip_pl.runs.wandb_project import find_wandb

        for each in find_wandb(project).runs:
            if each.name in found:
                found[each.name] = _provenance(each.results)
    return found


def _provenance(results: Results) -> Provenance:
    return Provenance(str(results["command"]), {str(k): str(v) for k, v in results["versions"].items()})
