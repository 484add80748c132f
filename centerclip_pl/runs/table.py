"""All runs of a source as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.runs.columns import AFTER_METRICS, COLUMNS, COST, METRICS, POST_PROCESSINGS, SETTING, is_metric
from centerclip_pl.runs.found import Found
from centerclip_pl.runs.local import RESULTS, find_local
from centerclip_pl.runs.row import row_of

WANDB = "wandb:"
_SHOWN = 10
_NUMBERS = (*METRICS, *COST, "published_videos", "duration_s")
_COUNTS = ("after_block", "segments", "clusters", "seed", "epochs", "threads")


def read_runs(source: str | Path | Sequence[str | Path], *, on_bad: Literal["error", "skip"] = "error") -> pd.DataFrame:
    """One row a run: its setting, what it found, at what cost, and the options in which the runs differ.

    Args:
        source: a folder (searched with all below it for ``results.json``), one run's folder, or a W&B project
            ``wandb:ENTITY/PROJECT`` or ``wandb:PROJECT``; or several of these. A run found twice counts once.
        on_bad: what to do about runs that cannot be read: ``"error"`` names them all; ``"skip"`` leaves them out and
            lists them in ``frame.attrs["skipped"]``, ``"path: why"`` each.

    Returns:
        The columns `centerclip_pl.runs.columns.COLUMNS`: the run's path; its setting; metrics without their split
        (``t2v/R@1``, in per cent; ``t2v/MdR``), then other metrics that a run has, then figures of post-processing as
        ``dual_softmax/t2v/R@1``; cost a video (``gmacs`` in 10^9 multiply-accumulates, ``encode_ms`` and
        ``clustering_ms`` in milliseconds, ``memory_mb`` in MiB); counts; ``created`` (ISO 8601, UTC), ``duration_s`` in
        seconds, ``commit`` (with ``-dirty`` where files differed from it), ``version`` of this package. Behind them a
        column for each option that differs between the runs and may change what they find, as on the command line.
        Values are missing (None or NaN) where an option has no effect or a run has no ``config.yaml``. Rows are in the
        order of `created`. ``frame.attrs`` has ``"skipped"`` and ``"unfinished"`` (runs with options and no results).

    Raises:
        ConfigError: ``on_bad`` is neither of the two.
        DataError: there is no such source, no run in it, a run that cannot be read, or W&B does not answer.
    """
    if on_bad not in ("error", "skip"):
        raise ConfigError(f"on_bad_run is {on_bad!r}, but must be 'error' or 'skip'")
    sources = [str(each) for each in ([source] if isinstance(source, str | Path) else source)]
    found = _find(sources)
    rows, further = [], []
    for run in found.runs:
        try:
            row, options = row_of(run)
        except DataError as error:
            found.bad.append(error.problem)
            continue
        rows.append(row)
        further.append(options)
    if found.bad and on_bad == "error":
        shown = found.bad[:_SHOWN] + ([f"... and {len(found.bad) - _SHOWN} more"] if len(found.bad) > _SHOWN else [])
        raise DataError(
            f"{len(found.bad)} of {len(rows) + len(found.bad)} runs cannot be read:\n  " + "\n  ".join(shown),
            "mend them or move them away; or leave them out with --on_bad_run=skip",
        )
    if not rows:
        raise _no_runs(sources, found)
    frame = _frame(rows, further)
    frame.attrs = {"skipped": found.bad, "unfinished": found.unfinished}
    return frame


def _find(sources: Sequence[str]) -> Found:
    found, seen, projects = Found(), set[Path](), dict.fromkeys(s for s in sources if s.startswith(WANDB))
    for source in (*(s for s in sources if not s.startswith(WANDB)), *projects):
        if source.startswith(WANDB):
            from centerclip_pl.runs.wandb_project import find_wandb

            part = find_wandb(source)
        else:
            part = find_local(source, seen)
        found.runs += part.runs
        found.bad += part.bad
        found.unfinished += part.unfinished
    return found


def _no_runs(sources: Sequence[str], found: Found) -> DataError:
    where = ", ".join(sources) or "no folder"
    left_out = f" ({len(found.bad)} that cannot be read were left out)" if found.bad else ""
    local = any(not source.startswith(WANDB) for source in sources)
    what = f"{RESULTS} in {where} or below" if local else f"run with results in {where}"
    problem = f"there is no {what}{left_out}"
    if found.unfinished:
        names = ", ".join(found.unfinished[:_SHOWN]) + (", ..." if len(found.unfinished) > _SHOWN else "")
        count = len(found.unfinished)
        problem += f"; {count} unfinished run{'s' if count > 1 else ''}, with options and without results: {names}"
    if not local:
        return DataError(
            problem, "results get there when a test has ended that logged to W&B; earlier versions kept none"
        )
    return DataError(
        problem,
        f"{RESULTS} appears when a test has ended: let the run end (the same command with --run_dir=FOLDER goes on), "
        "or test its checkpoint with `centerclip eval --checkpoint=FILE`",
    )


def _frame(rows: list[dict[str, Any]], further: list[dict[str, Any]]) -> pd.DataFrame:
    other = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    processed = [name for name in other if name.startswith(tuple(f"{p}/" for p in POST_PROCESSINGS))]
    metrics = [*METRICS, *(name for name in other if name not in processed), *processed]
    frame = pd.DataFrame(rows, columns=["run", *SETTING, *metrics, *AFTER_METRICS])
    frame = frame.astype({name: "float64" for name in frame.columns if is_metric(name) or name in _NUMBERS})
    for name in _COUNTS:  # whole numbers where all are known; with several reducers a text such as "[4, 6]"
        if not frame[name].map(lambda value: isinstance(value, str)).any():
            frame[name] = frame[name].astype("float64" if frame[name].isna().any() else "int64")
    options = _varied(frame, further)
    frame = pd.concat([frame, options], axis="columns") if len(options.columns) else frame
    return frame.sort_values(["created", "run"], kind="stable", ignore_index=True)


def _varied(frame: pd.DataFrame, further: list[dict[str, Any]]) -> pd.DataFrame:
    """The options of which the runs that have them have different values."""
    names = sorted({name for options in further for name in options})
    columns: dict[str, list[Any]] = {}
    for name in names:
        if len({_key(options[name]) for options in further if name in options}) > 1:
            columns[name] = [options.get(name) for options in further]
    # These say what a column says already, unless one method was run with several reducers.
    for name, column in (("model.reduction", "method"), ("model.backbone", "backbone")):
        if name in columns and _follows(columns[name], frame[column].tolist()):
            del columns[name]
    return pd.DataFrame(columns, index=frame.index)


def _key(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), value  # True == 1


def _follows(values: list[Any], leaders: list[Any]) -> bool:
    """Whether the leader tells the value: each leader goes with one value only."""
    pairs = {(str(leader), str(value)) for leader, value in zip(leaders, values, strict=True) if value is not None}
    return len(pairs) == len({leader for leader, _ in pairs})
