"""A sweep file: W&B's format, read, checked, and turned into the words of commands."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps.engine import engine

_SECTIONS = (
    "apiVersion", "kind", "controller", "description", "program", "entity", "project", "method", "command", "name",
    "metric", "early_terminate", "parameters",
)  # fmt: skip
_PARAMETER_KEYS = ("value", "values", "min", "max", "mu", "sigma", "q", "distribution", "probabilities", "parameters")
_METHODS = ("grid", "random", "bayes")
_COMMANDS = ("train", "fit")
_MACRO = re.compile(r"\$\{.*\}")
_FORMAT = "https://docs.wandb.ai/models/sweeps/sweep-config-keys tells the format"


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file.

    Attributes:
        config: the file's content, as W&B takes it.
        name: for folders and messages: the file's name without its suffix.
    """

    config: dict[str, Any]
    name: str

    @property
    def method(self) -> str:
        """``"grid"``, ``"random"`` or ``"bayes"``."""
        return str(self.config["method"])

    @property
    def metric(self) -> str | None:
        """The name of the metric that the search goes by; a grid may have none."""
        metric = self.config.get("metric")
        return None if metric is None else str(metric["name"])

    @property
    def maximizes(self) -> bool:
        """Whether a higher metric is better."""
        return (self.config.get("metric") or {}).get("goal", "minimize") == "maximize"

    @property
    def varied(self) -> tuple[str, ...]:
        """The names of the parameters that differ between runs."""
        return tuple(name for name, one in self.config["parameters"].items() if _varies(one))

    @property
    def dataset(self) -> str | None:
        """The name that the file gives, where it gives one."""
        given = self.config["parameters"].get("dataset") or {}
        return given.get("value")

    def with_value(self, name: str, value: Any) -> Sweep:
        """The sweep with a parameter that has one value, in place of what the file says."""
        config = copy.deepcopy(self.config)
        config["parameters"][name] = {"value": value}
        return Sweep(config, self.name)

    def with_words(self, words: Sequence[str]) -> Sweep:
        """The sweep whose commands have further options, behind those of its parameters."""
        config = copy.deepcopy(self.config)
        config["command"] = [*config["command"], *words]
        return Sweep(config, self.name)

    def words(self, parameters: Mapping[str, Any]) -> list[str]:
        """The words behind ``centerclip`` of a run: ``["train", "--dataset=demo", "--tokens.segments=4", ...]``.

        Written as ``wandb agent`` writes them, so that both run the same command.
        """
        command = self.config["command"]
        first = next(place for place, word in enumerate(command) if word in _COMMANDS)
        words: list[str] = []
        for word in command[first:]:
            words += [f"--{name}={value}" for name, value in parameters.items()] if word == "${args}" else [str(word)]
        return words

    def identity(self) -> str:
        """The same for two sweeps that run the same commands and search alike."""
        search = {key: self.config.get(key) for key in ("method", "metric", "early_terminate", "parameters", "command")}
        return hashlib.sha256(json.dumps(search, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_sweep(path: str | Path) -> Sweep:
    """Reads a sweep file and checks it as W&B does.

    Raises:
        ConfigError: the file cannot be read, W&B would refuse it, or it runs something else than this package's
            ``train`` or ``fit``. Unknown keys come with a near name.
    """
    path = Path(path)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: must hold a sweep (a YAML mapping)", _FORMAT)
    _check_keys(path, config)
    _check_command(path, config)
    _check_schema(path, config)
    _check_method(path, config)
    return Sweep(config, path.stem)


def _check_keys(path: Path, config: dict[str, Any]) -> None:
    # Before the schema, whose answer to a typo is that nothing fits.
    _known(path, "", config, _SECTIONS)
    for section in ("method", "parameters"):
        if not config.get(section):
            raise ConfigError(f"{path}: has no {section}", _FORMAT)
    if not isinstance(config["parameters"], dict):
        raise ConfigError(f"{path}: parameters must be a mapping of names", _FORMAT)
    _check_parameters(path, config["parameters"])


def _check_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    where = "parameters"
    for name, one in parameters.items():
        if not isinstance(one, dict) or not one:
            raise ConfigError(
                f"{path}: {where}.{name} is {one!r}, which says nothing about its values",
                f"write {name}: {{value: ...}}, {{values: [...]}}, or {{min: ..., max: ...}}",
            )
        _known(path, f"{where}.{name}.", one, _PARAMETER_KEYS)
        if "values" in one and (not isinstance(one["values"], list) or not one["values"]):
            raise ConfigError(f"{path}: {where}.{name}.values is {one['values']!r}", "write a list of values")
        if "parameters" in one:  # `wandb agent` would write --tokens={'segments': 4}
            raise ConfigError(
                f"{path}: {where}.{name} holds further parameters, which cannot be said on a command line",
                f"write them with dots: {name}.NAME: {{values: [...]}}",
            )


def _known(path: Path, where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{path}: {where}{key} is nothing that W&B knows", hint)


def _check_command(path: Path, config: dict[str, Any]) -> None:
    command = config.get("command")
    right = "[${env}, ${interpreter}, -m, centerclip_pl, train, ${args}]"
    if not isinstance(command, list) or not any(word in _COMMANDS for word in command):
        raise ConfigError(
            f"{path}: command is {command!r}, which is neither `centerclip train` nor `centerclip fit`",
            f"write command: {right}",
        )
    first = next(place for place, word in enumerate(command) if word in _COMMANDS)
    if not any(str(word) in ("centerclip_pl", "centerclip") for word in command[:first]):
        raise ConfigError(f"{path}: its command does not run centerclip: {command!r}", f"write command: {right}")
    macros = [word for word in command[first:] if _MACRO.search(str(word))]
    if macros != ["${args}"]:
        raise ConfigError(
            f"{path}: its command must have ${{args}} once and no other macro behind {command[first]}: {command!r}",
            f"write command: {right}",
        )
    early = [str(word) for word in command if re.match(r"--run_dir(=|$)", str(word))]
    if early or "run_dir" in config["parameters"]:
        raise ConfigError(f"{path}: sets run_dir, but every run needs a folder of its own", "remove it")


def _check_schema(path: Path, config: dict[str, Any]) -> None:
    try:
        wrong = engine().schema_violations_from_proposed_config(copy.deepcopy(config))
    except (ValueError, TypeError, AttributeError) as error:  # it compares what it has not looked at
        wrong = [str(error)]
    if wrong:
        raise ConfigError(f"{path}: W&B would refuse it: {'; '.join(wrong)}", _FORMAT)


def _check_method(path: Path, config: dict[str, Any]) -> None:
    method = config["method"]
    if method not in _METHODS:  # "custom" is in W&B's schema, for programs of one's own
        raise ConfigError(f"{path}: method is {method!r}", f"choose one of {', '.join(_METHODS)}")
    if (method == "bayes" or "early_terminate" in config) and "metric" not in config:
        needs = "method bayes" if method == "bayes" else "early_terminate"
        raise ConfigError(f"{path}: {needs} needs a metric", "write metric: {name: val/t2v/R@1, goal: maximize}")
    if method == "grid":
        for name, one in config["parameters"].items():
            ranged = "min" in one and one.get("distribution") not in ("int_uniform", "q_uniform")
            integers = isinstance(one.get("min"), int) and isinstance(one.get("max"), int)
            if (ranged and not (integers and "distribution" not in one)) or "mu" in one or "probabilities" in one:
                raise ConfigError(
                    f"{path}: parameters.{name} is a distribution, but a grid needs values",
                    "write values: [...], or method: random",
                )


def _varies(parameter: Mapping[str, Any]) -> bool:
    return "value" not in parameter and not ("values" in parameter and len(parameter["values"]) == 1)
