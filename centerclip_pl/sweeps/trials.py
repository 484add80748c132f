"""The runs of a sweep on disk. Each has a folder of its own, which is a run's folder and says by itself how far it is.

``trial.json`` holds the parameters and is written before anything runs; ``results.json`` says that a run is done. What
is neither done nor stopped is left to do, however the last call ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing
from centerclip_pl.sweeps.sweep_file import Sweep

State = Literal["left", "running", "finished", "stopped", "failed"]
TRIAL_FILE, SWEEP_FILE = "trial.json", "sweep.yaml"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        index: from 0, in the order in which the search proposed them.
        parameters: by their names with dots, as JSON holds them.
        folder: the run's folder.
        state: ``left`` to do (not begun, or interrupted), ``running``, ``finished`` (it has a ``results.json``),
            ``stopped`` early by the search, ``failed``.
        attempts: how often it was started.
        reason: why it failed.
    """

    index: int
    parameters: dict[str, Any]
    folder: Path = field(compare=False)
    state: State = "left"
    attempts: int = 0
    reason: str | None = None

    def saved(self, **changes: Any) -> Trial:
        """The trial with some fields changed, and ``trial.json`` written."""
        trial = replace(self, **changes)
        content = {key: value for key, value in asdict(trial).items() if key != "folder"}
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / TRIAL_FILE) as part:
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return trial

    def history(self, metric: str) -> list[float]:
        """The values of a metric so far, in the order in which they were logged."""
        return _column(self.folder / "metrics.csv", metric)

    def logged(self) -> list[str]:
        """The names of the metrics that the run logged, without those of its steps."""
        try:
            names = pd.read_csv(self.folder / "metrics.csv", nrows=0).columns
        except (OSError, ValueError):
            return []
        return [str(name) for name in names if str(name).startswith(("val/", "test/"))]

    def describe(self, names: Iterable[str]) -> str:
        """``"segments=4 clusters=48"``: some parameters by the last part of their names."""
        return " ".join(
            f"{name.rpartition('.')[2]}={self.parameters[name]}" for name in names if name in self.parameters
        )


class SweepFolder:
    """The folder of a sweep: ``sweep.yaml``, and ``0000``, ``0001``, ... of its runs.

    Args:
        path: the folder; made by :meth:`claim`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def claim(self, sweep: Sweep) -> None:
        """Makes the folder, or makes sure that it is this sweep's.

        Raises:
            ConfigError: it holds another sweep, or other things.
        """
        file = self.path / SWEEP_FILE
        if file.is_file():
            there = Sweep(_read_yaml(file), sweep.name)
            if there.identity() != sweep.identity():
                raise ConfigError(
                    f"{self.path} holds runs of another sweep: {_difference(there.config, sweep.config)}",
                    "name another folder with --folder=FOLDER, or remove this one",
                )
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(f"{self.path} is there and is not a sweep's folder", "name another with --folder=FOLDER")
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(yaml.safe_dump(sweep.config, sort_keys=False), encoding="utf-8")

    def trials(self) -> list[Trial]:
        """All trials that were begun or planned, by index.

        Raises:
            DataError: a ``trial.json`` cannot be read.
        """
        found = [_read_trial(file) for file in sorted(self.path.glob(f"[0-9]*/{TRIAL_FILE}"))]
        return sorted(found, key=lambda trial: trial.index)

    def add(self, index: int, parameters: dict[str, Any]) -> Trial:
        """A new trial, written before it runs."""
        return Trial(index, parameters, self.path / f"{index:04d}").saved()


def current_state(trial: Trial) -> Trial:
    """The trial as its folder has it, to be called where no process works on it.

    ``running`` of a process that is gone is ``left``; whatever was noted, a whole ``results.json`` is ``finished``.
    """
    from centerclip_pl.training.results import read_results

    if (trial.folder / "results.json").is_file():
        try:
            read_results(trial.folder / "results.json")
            return replace(trial, state="finished", reason=None)
        except DataError as error:
            return replace(trial, state="failed", reason=error.problem)
    return replace(trial, state="left") if trial.state in ("running", "finished") else trial


def _read_trial(file: Path) -> Trial:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Trial(folder=file.parent, **content)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{file}: cannot be read: {error}", f"remove the folder {file.parent}: the run will be done again"
        ) from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}", "name another folder with --folder=FOLDER") from error
    return content if isinstance(content, dict) else {}


def _column(file: Path, name: str) -> list[float]:
    if not file.is_file():
        return []
    try:
        table = pd.read_csv(file, usecols=lambda column: column == name, on_bad_lines="skip")
    except (OSError, ValueError):  # no line yet, or one that is being written
        return []
    if name not in table:
        return []
    return [float(value) for value in pd.to_numeric(table[name], errors="coerce").dropna()]


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    for key in ("method", "metric", "command", "early_terminate"):
        if there.get(key) != here.get(key):
            return f"its {key} is {there.get(key)!r}, here it is {here.get(key)!r}"
    old, new = there.get("parameters") or {}, here["parameters"]
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not names:
        return "its parameters come in another order"
    name = names[0]
    return f"its {name} is {old.get(name, 'not set')}, here it is {new.get(name, 'not set')}"
