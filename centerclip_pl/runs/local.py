"""Runs in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from centerclip_pl.errors import DataError
from centerclip_pl.runs.found import Found, FoundRun
from centerclip_pl.training.results import read_results

RESULTS, CONFIG = "results.json", "config.yaml"
# Large, and nothing in them is a run; W&B keeps a config.yaml of its own there.
_NO_RUNS = frozenset({"wandb", "checkpoints", "__pycache__", "node_modules"})
# 1,000 files take 2 s with libyaml, 20 s without; wheels of PyYAML have it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NESTING = 2000  # of what may be lists in lists: libyaml ends the process where there are tens of thousands


def find_local(source: str | Path, seen: set[Path] | None = None) -> Found:
    """The runs below a folder (links are followed), or the one run of a ``results.json``.

    Args:
        source: a folder, or a file ``results.json``.
        seen: real folders that another source has already given; they are left out here, and those found are added.

    Raises:
        DataError: there is no such folder, or the file is no ``results.json``.
    """
    source, seen, found = Path(source), set() if seen is None else seen, Found()
    if not source.exists():
        raise DataError(
            f"{source}: there is no such folder",
            "name a folder with runs, one run's folder, or a W&B project: wandb:ENTITY/PROJECT",
        )
    if source.is_file() and source.name != RESULTS:
        raise DataError(f"{source} is neither a folder nor a {RESULTS}", "name the run's folder")
    folders = [(source.parent, {RESULTS, CONFIG})] if source.is_file() else _folders(source, found.bad)
    for folder, names in folders:
        if not names & {RESULTS, CONFIG}:
            continue
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        if RESULTS not in names:
            found.unfinished.append(str(folder))
            continue
        try:
            found.runs.append(FoundRun(str(folder), read_results(folder / RESULTS), read_config(folder / CONFIG)))
        except DataError as error:
            found.bad.append(error.problem)
    return found


def read_config(path: Path) -> dict[str, Any] | None:
    """The options of a run; None where there is no such file.

    Raises:
        DataError: the file cannot be read, or holds no options.
    """
    try:
        text = path.read_text(encoding="utf-8")
        deep = sum(map(text.count, ("[", "{", "- ", "? "))) > _NESTING
        content = yaml.load(text, yaml.SafeLoader if deep else _LOADER)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: 2001-99-99 is no date
        raise DataError(f"{path}: cannot be read: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no options of a run")
    return content


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _folders(top: Path, bad: list[str]) -> Iterator[tuple[Path, set[str]]]:
    """Every folder from ``top`` down with the names of its files, in order; one that cannot be listed is bad."""
    visited: set[str] = set()

    def complain(error: OSError) -> None:
        bad.append(f"{error.filename}: cannot be listed: {error.strerror}")

    for folder, below, files in os.walk(top, onerror=complain, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder above it
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(name for name in below if name not in _NO_RUNS and not name.startswith("."))
        yield Path(folder), set(files)
