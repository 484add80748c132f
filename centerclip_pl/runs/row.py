"""A run as a row of the table."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.runs.found import FoundRun
from centerclip_pl.runs.options import option_or, settings
from centerclip_pl.training.results import Commit, Counts, Results, Selection

_AGAIN = "the file was edited; test again"
_COST = {
    "gmacs": "gmacs_per_video",
    "encode_ms": "encode_ms_per_video",
    "clustering_ms": "clustering_ms_per_video",
    "memory_mb": "peak_memory_mb",
    "memory_kind": "peak_memory_kind",
    "device": "device",
    "dtype": "dtype",
    "threads": "threads",
    "measured_again": "measured_again",
}
_COMMIT = Commit.__required_keys__
_TOKENS = ("after_block", "segments", "clusters")


_TEXTS = (
    *("dataset", "split", "protocol", "method", "backbone", "head", "selection", "selected_on", "memory_kind"),
    *("device", "dtype", "commit", "version"),
)
_NUMBERS = (
    *("gmacs", "encode_ms", "clustering_ms", "memory_mb", "threads", "seed", "epochs", "videos", "texts"),
    *("missing_videos", "broken_videos", "published_videos", "duration_s"),
)
_MOST = 2**53  # beyond, floats do not know every whole number; nothing here is as large


def row_of(run: FoundRun) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns that every table has, and the run's further options.

    Raises:
        DataError: a part of the results or of the options is not as this package writes it.
    """
    try:
        row, further = _row_of(run)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{run.name}: results.json is not as this package writes it: {error}", _AGAIN) from error
    for names, kinds, what in ((_TEXTS, (str,), "text"), (_NUMBERS, (int, float), "number")):
        for name in names:
            value = row.get(name)
            if value is not None and (
                not isinstance(value, kinds) or (what == "number" and not abs(float(value)) < _MOST)
            ):
                raise DataError(f"{run.name}: its {name} is no {what}, but {reprlib.repr(value)}", _AGAIN)
    for name in _TOKENS:  # a text stands for a list of several reducers' numbers
        value = row.get(name)
        if not isinstance(value, int | str | None) or (isinstance(value, int) and not abs(float(value)) < _MOST):
            raise DataError(f"{run.name}: its {name} is no whole number, but {reprlib.repr(value)}", _AGAIN)
    return row, further


def _row_of(run: FoundRun) -> tuple[dict[str, Any], dict[str, Any]]:
    results = run.results
    _check(run)
    selection, counts = results["selection"], results["counts"]
    cost: Mapping[str, Any] = results["cost"] or {}
    commit = results["commit"]
    weights = selection["path"] if selection["rule"] == "given" or _is_of_another_run(results) else None
    trained = selection["rule"] != "zero-shot" and weights is None
    row = {
        "run": run.name,
        "dataset": results["dataset"],
        "split": results["split"],
        "protocol": results["protocol"],
        "seed": results["seed"],
        "selection": selection["rule"],
        "selected_on": selection["selected_on"],
        **_figures(results),
        **{column: cost.get(name) for column, name in _COST.items()},
        "videos": counts["videos"],
        "texts": counts["texts"],
        "missing_videos": counts["missing_videos"],
        "broken_videos": counts["broken_videos"],
        "published_videos": counts.get("published_videos"),
        "created": str(results["created"]),
        "duration_s": results["duration_seconds"],
        "commit": None if commit is None else commit["hash"] + ("-dirty" if commit["dirty"] else ""),
        "version": results["versions"].get("centerclip-pl"),
    }
    if run.config is None:
        return row, {}
    try:
        row |= _setting(run.config, trained)
        further = settings(run.config, trained=trained)
    except (ConfigError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{run.name}: its options cannot be understood: {error}", "restore config.yaml") from error
    if weights is not None:  # each checkpoint is a setting of its own: how it was trained is told elsewhere
        further["ckpt_path"] = weights
    return row, further


def _is_of_another_run(results: Results) -> bool:
    """Whether the command tested a checkpoint of another run, whose options config.yaml does not have."""
    path, words = results["selection"]["path"], results["command"].split()
    if path is None or not {"eval", "test"} & set(words[1:4]):  # centerclip eval; python -m centerclip_pl eval
        return False
    here, there = Path(results["run_dir"]).parts, Path(path).parent.parent.parts  # .../checkpoints/best.ckpt
    count = min(len(here), len(there))  # either may be relative
    return here[len(here) - count :] != there[len(there) - count :]


def _check(run: FoundRun) -> None:
    results = run.results
    parts: list[tuple[str, Any, frozenset[str]]] = [
        ("selection", results["selection"], Selection.__required_keys__),
        ("counts", results["counts"], Counts.__required_keys__),
        ("cost", results["cost"] or {}, frozenset()),
        ("commit", results["commit"] or dict.fromkeys(_COMMIT), _COMMIT),
        ("versions", results["versions"], frozenset()),
        ("transductive", results.get("transductive", {}), frozenset()),
    ]
    for name, content, fields in parts:
        if not isinstance(content, Mapping):
            raise DataError(f"{run.name}: {name} in results.json is no table of names and values", _AGAIN)
        missing = sorted(fields - content.keys())
        if missing:
            raise DataError(f"{run.name}: {name} in results.json lacks {', '.join(missing)}", _AGAIN)
    for name, figures in results.get("transductive", {}).items():
        if not isinstance(figures, Mapping) or not all(isinstance(value, int | float) for value in figures.values()):
            raise DataError(f"{run.name}: the figures of {name} in results.json are not numbers", _AGAIN)


def _figures(results: Results) -> dict[str, float]:
    figures = {name.removeprefix(f"{results['split']}/"): value for name, value in results["metrics"].items()}
    for processing, values in results.get("transductive", {}).items():
        figures |= {f"{processing}/{name}": value for name, value in values.items()}
    return {name: _shortest(float(value)) for name, value in figures.items()}


def _shortest(value: float) -> float:
    """48.8 for 48.79999924: metrics are computed in float32, and equal means have to be equal to be ties."""
    single = np.float32(value)
    return float(str(single)) if float(single) == value else value


def _setting(config: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    reducers = option_or(config, "model.reduction", None)
    names = {name: option_or(config, f"model.reduction.{name}", None) for name in _TOKENS}
    backbone = option_or(config, "experiment.backbone", None) or option_or(config, "model.backbone", None)
    return {
        "method": option_or(config, "experiment.method", None) or reducers or "baseline",
        "backbone": backbone,
        "head": option_or(config, "model.head", None),
        **names,
        "epochs": option_or(config, "trainer.max_epochs", None) if trained else None,
    }
