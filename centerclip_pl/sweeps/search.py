"""What to run next, and what to stop: W&B's own search, the package ``sweeps``, asked about trials on disk."""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps.engine import engine
from centerclip_pl.sweeps.sweep_file import Sweep
from centerclip_pl.sweeps.trials import Trial

_STATES = {"left": "pending", "running": "running", "finished": "finished", "stopped": "killed", "failed": "failed"}


def grid_size(sweep: Sweep) -> int | None:
    """How many runs a grid has; None for other searches."""
    if sweep.method != "grid":
        return None
    size = 1
    for one in sweep.config["parameters"].values():
        if "values" in one:
            size *= len(one["values"])
        elif "min" in one:  # whole numbers, or steps of q up to max (as W&B counts them)
            steps = one.get("q")
            size *= one["max"] - one["min"] + 1 if steps is None else len(np.arange(one["min"], one["max"], steps))
    return size


def total_runs(sweep: Sweep, count: int | None) -> int:
    """How many runs a sweep has: ``count``, and no more than a grid has.

    Raises:
        ConfigError: the search has no end, and no ``count`` was given.
    """
    sizes = [number for number in (grid_size(sweep), count) if number is not None]
    if not sizes:
        raise ConfigError(
            f"the search of {sweep.name} is {sweep.method}, which never ends by itself", "say how many runs: --count=20"
        )
    return min(sizes)


def next_parameters(sweep: Sweep, trials: Sequence[Trial], seed: int = 0) -> dict[str, Any] | None:
    """The parameters of the next run; None where a grid has no other.

    Args:
        sweep: what is searched.
        trials: all that were proposed, with the states they are in; those that run count too.
        seed: of random choices. The same trials lead to the same proposal.

    Returns:
        By their names with dots, as JSON holds them.

    Raises:
        ConfigError: the search cannot go on: what it was told does not fit.
    """
    with _seeded(seed, len(trials)):
        try:
            run = engine().next_run(_filled(sweep), _runs(sweep, trials))
        except ValueError as error:
            raise ConfigError(f"the search of {sweep.name} cannot go on: {error}", "mend the sweep file") from error
    return None if run is None else _plain({name: content["value"] for name, content in run.config.items()})


def grid_parameters(sweep: Sweep) -> list[dict[str, Any]]:
    """The parameters of every run of a grid, in the order in which they are proposed."""
    runs = engine().next_runs(_filled(sweep), [], n=grid_size(sweep) or 0)
    return [_plain({name: content["value"] for name, content in run.config.items()}) for run in runs if run]


def values_to_check(sweep: Sweep, most: int = 200) -> list[dict[str, Any]]:
    """Parameters that show whether the options take the values of a sweep.

    Of a grid every combination, if there are at most ``most``. Otherwise each value, and both ends of each range, once,
    with the first values of the others.
    """
    size = grid_size(sweep)
    if size is not None and size <= most:
        return grid_parameters(sweep)
    values = {name: _values(one) for name, one in sweep.config["parameters"].items()}
    first = {name: some[0] for name, some in values.items() if some}
    return [first] + [{**first, name: value} for name, some in values.items() for value in some[1:]]


def _values(parameter: Mapping[str, Any]) -> list[Any]:
    if "value" in parameter:
        return [parameter["value"]]
    if "values" in parameter:
        return list(parameter["values"])
    is_exponent = parameter.get("distribution") == "log_uniform"  # W&B: the ends are powers of e
    ends = [parameter[key] for key in ("min", "max", "mu") if key in parameter]
    return [math.exp(end) for end in ends] if is_exponent else ends


def to_stop(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """The running trials that early termination (hyperband, arXiv 1603.06560) ends; none where the file has none."""
    if "early_terminate" not in sweep.config:
        return []
    with _quiet():
        ended = {run.name for run in engine().stop_runs(_filled(sweep), _runs(sweep, trials))}
    return [trial for trial in trials if str(trial.index) in ended]


def _filled(sweep: Sweep) -> Any:
    return engine().SweepConfig(sweep.config)  # a copy with the defaults of distributions


def _runs(sweep: Sweep, trials: Sequence[Trial]) -> list[Any]:
    runs = []
    for trial in trials:
        values = [] if sweep.metric is None else trial.history(sweep.metric)
        runs.append(
            engine().SweepRun(
                name=str(trial.index),
                state=_STATES[trial.state],
                config={name: {"value": value} for name, value in trial.parameters.items()},
                sampledHistory=[{sweep.metric: value} for value in values],
                summaryMetrics={sweep.metric: values[-1]} if values else {},
            )
        )
    return runs


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's, so that what was proposed is what JSON gives back."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in parameters.items()}
    parsed: dict[str, Any] = json.loads(json.dumps(plain))
    return parsed


@contextmanager
def _seeded(seed: int, done: int) -> Iterator[None]:
    """The search draws from the global generators: given a seed, and put back as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    mixed = np.random.SeedSequence([seed, done]).generate_state(1)[0]
    try:
        random.seed(int(mixed))
        np.random.seed(int(mixed))  # noqa: NPY002
        with _quiet():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's and scikit-learn's, of the search's own code
        yield
