"""``results.json``: what a test found, at what cost, and what is needed to know where the figures are from."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from centerclip_pl import __version__
from centerclip_pl.errors import DataError, NonFiniteError
from centerclip_pl.files import replacing
from centerclip_pl.training.masking import mask_command

if TYPE_CHECKING:
    from centerclip_pl.training.cost import Cost

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or disappears; new fields alone do not raise it."""

REPORTED_PACKAGES = (
    "torch",
    "lightning",
    "transformers",
    "torchmetrics",
    "decord",
    "av",
    "numpy",
    "tokenizers",
    "safetensors",
    "wandb",
)


class _LaterSelection(TypedDict, total=False):
    """What files of earlier versions lack."""

    chosen: str
    """The same in words; see `centerclip_pl.training.chosen`."""


class Selection(_LaterSelection):
    """Which weights were tested, and by what rule they were chosen."""

    rule: Literal["best", "last", "given", "zero-shot"]
    """``best``: the checkpoint with the best ``monitor``. ``last``: the weights as training left them. ``given``: a
    checkpoint that the user named. ``zero-shot``: weights that were not trained in this run."""
    monitor: str | None
    """The metric that chose, e.g. ``val/t2v/R@1``."""
    value: float | None
    """Its value for these weights."""
    selected_on: str | None
    """The split that chose; ``test`` where the user asked for it, as the published systems do."""
    epoch: int | None
    """Counted from 0."""
    step: int | None
    """Optimiser steps before the checkpoint was written."""
    path: str | None


class _LaterCounts(TypedDict, total=False):
    """What files of earlier versions lack."""

    published_videos: int | None
    """Videos that the split has as published; None where no number is known. With fewer, figures are too high."""


class Counts(_LaterCounts):
    """What was evaluated, and what had to be left out, which happens only on request (``on_bad_video: drop``)."""

    videos: int
    texts: int
    missing_videos: int
    """Videos of the split whose files are absent."""
    broken_videos: int
    """Videos of the split whose files cannot be used."""
    bad_videos: list[dict[str, str]]
    """``video_id``, ``path``, ``reason`` and ``split`` of each video left out, of all splits that were read."""
    splits: dict[str, dict[str, int]]
    """The same numbers for each split that was read: ``videos``, ``texts``, ``missing``, ``broken``."""


class Commit(TypedDict):
    """The state of the repository in the working directory."""

    hash: str
    dirty: bool
    """True where tracked files differ from the commit."""


class _LaterResults(TypedDict, total=False):
    """What files of earlier versions lack, and files of tests without post-processing."""

    transductive: dict[str, dict[str, float]]
    """Of each post-processing (``dual_softmax``, ``qb_norm``) its figures, as ``t2v/R@1``. They depend on other queries
    than the one that is ranked, and are not to be compared with ``metrics``. See
    `centerclip_pl.training.postprocess`."""
    transductive_parameters: dict[str, dict[str, Any]]
    """What they were made with: ``temperature``; ``beta``, ``k``, ``bank_source``, ``bank_texts``, ``bank_videos``,
    ``seed``."""


class Results(_LaterResults):
    """The content of ``results.json``."""

    schema_version: int
    dataset: str
    split: str
    protocol: str
    """How captions and videos of the split make queries, e.g. ``"1k-A: one caption a video"``."""
    selection: Selection
    metrics: dict[str, float]
    """By the names under which they were logged: ``test/t2v/R@1``, ``test/v2t/MnR``, ... Recalls are percentages."""
    cost: Cost | None
    counts: Counts
    seed: int | None
    commit: Commit | None
    """None outside of a git repository."""
    versions: dict[str, str]
    command: str
    """As typed, with keys and passwords masked."""
    created: str
    """ISO 8601, UTC."""
    duration_seconds: float
    """From the start of the command to the end of the test."""
    run_dir: str


def make_results(
    *,
    dataset: str,
    split: str,
    protocol: str,
    selection: Selection,
    metrics: Mapping[str, float],
    cost: Cost | None,
    counts: Counts,
    seed: int | None,
    duration_seconds: float,
    run_dir: str | Path,
    arguments: Sequence[str] | None = None,
    transductive: Mapping[str, Mapping[str, float]] | None = None,
    transductive_parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Results:
    """Puts the findings together with what surrounds them: commit, versions, command (``sys.argv``) and time."""
    results = Results(
        schema_version=SCHEMA_VERSION,
        dataset=dataset,
        split=split,
        protocol=protocol,
        selection=selection,
        metrics={name: float(value) for name, value in metrics.items()},
        cost=cost,
        counts=counts,
        seed=seed,
        commit=current_commit(),
        versions=installed_versions(),
        command=mask_command(_typed(sys.argv if arguments is None else arguments)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_seconds=round(duration_seconds, 3),
        run_dir=str(run_dir),
    )
    if transductive:
        results["transductive"] = {method: dict(figures) for method, figures in transductive.items()}
        results["transductive_parameters"] = {
            method: dict(values) for method, values in (transductive_parameters or {}).items()
        }
    return results


def write_results(path: str | Path, results: Results) -> None:
    """Writes ``results`` as JSON; the file appears whole or not at all.

    Raises:
        NonFiniteError: a metric is NaN or infinite, which JSON cannot say and no reader should take for a figure.
    """
    for name, value in [*results["metrics"].items(), *_transductive(results)]:
        if not math.isfinite(value):
            raise NonFiniteError(
                f"the metric {name} is {value}; results.json is not written",
                "look for NaN in train/loss (metrics.csv), and for videos without a single real frame",
            )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2, allow_nan=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def read_results(path: str | Path) -> Results:
    """Reads a ``results.json`` back.

    Raises:
        DataError: the file is absent, cut off, of another schema version, or lacks a field.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is no such file", "it is written at the end of 'test'; run that first"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: is not complete JSON (line {error.lineno}: {error.msg})",
            "the file was cut off or edited; test again",
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists in lists
        raise DataError(f"{path}: cannot be read: {error}", "the file was edited; test again") from error
    return check_results(content, path)


def check_results(content: Any, name: str | Path) -> Results:
    """``content`` as `Results`, wherever it was read from.

    Args:
        content: what JSON gave.
        name: of the source, for messages.

    Raises:
        DataError: it is of another schema version, or lacks a field.
    """
    if not isinstance(content, dict) or "schema_version" not in content:
        raise DataError(f"{name}: is not a results.json of centerclip-pl (it has no schema_version)")
    if content["schema_version"] != SCHEMA_VERSION:
        raise DataError(
            f"{name}: has schema version {content['schema_version']!r}, this is a reader of version {SCHEMA_VERSION}",
            f"read it with the version of centerclip-pl that wrote it ({_writer(content)}), or test again",
        )
    missing = sorted(Results.__required_keys__ - content.keys())
    if missing:
        raise DataError(f"{name}: lacks {', '.join(missing)}", "the file was edited; test again")
    metrics = content["metrics"]
    if not isinstance(metrics, dict):
        raise DataError(f"{name}: its metrics are not a table of names and numbers", "the file was edited; test again")
    bad = [metric for metric, value in metrics.items() if not isinstance(value, int | float)]
    if bad:
        raise DataError(f"{name}: these metrics are not numbers: {', '.join(bad)}", "the file was edited; test again")
    later = content.get("transductive", {})
    if not isinstance(later, dict) or not all(isinstance(figures, dict) for figures in later.values()):
        raise DataError(f"{name}: its transductive figures are not a table a method", "the file was edited; test again")
    bad = [name for name, value in _transductive(cast(Results, content)) if not isinstance(value, int | float)]
    if bad:
        raise DataError(f"{name}: these figures are not numbers: {', '.join(bad)}", "the file was edited; test again")
    return cast(Results, content)


def _transductive(results: Results) -> list[tuple[str, float]]:
    """The figures of all post-processing with their methods' names."""
    return [
        (f"{method}/{name}", value)
        for method, figures in results.get("transductive", {}).items()
        for name, value in figures.items()
    ]


def current_commit(folder: str | Path = ".") -> Commit | None:
    """The commit that is checked out in ``folder``; None where there is no repository, no commit yet, or no git."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Commit(hash=head, dirty=bool(changes))


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures may depend on; absent packages are left out."""
    versions = {"python": platform.python_version(), "centerclip-pl": __version__}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(folder: str | Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), "--no-optional-locks", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _typed(arguments: Sequence[str]) -> list[str]:
    """``python -m centerclip_pl`` puts the path of __main__.py into sys.argv[0]; say what the user typed instead."""
    program, *rest = arguments or [""]
    name = Path(program)
    if name.name == "__main__.py":
        return ["python", "-m", name.parent.name, *rest]
    return [name.name, *rest]


def _writer(content: Mapping[str, Any]) -> str:
    versions = content.get("versions")
    return str(versions.get("centerclip-pl", "unknown")) if isinstance(versions, Mapping) else "unknown"
