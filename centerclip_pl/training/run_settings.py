"""What a run used for an option, read off its ``config.yaml`` and ``results.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from centerclip_pl.training.recipes import OptimizerOptions
from centerclip_pl.training.results import Results

_REDUCTION, _BATCH = "model.reduction", "data.batch_size"
_MOST_PROCESSES = 1024
# With other values the checkpoint may have been written within an epoch, or after one that was cut off.
_WHOLE_EPOCHS: dict[str, Any] = {
    "trainer.limit_train_batches": None,
    "trainer.val_check_interval": None,
    "trainer.max_steps": -1,
    "trainer.max_time": None,
    "checkpoint.every_n_train_steps": None,
    "checkpoint.train_time_interval": None,
}


class _NotRecorded:
    def __repr__(self) -> str:
        return "not recorded"


_NOT_RECORDED = _NotRecorded()


def is_recorded(value: Any) -> bool:
    """Whether what :func:`effective` returned is a value; False where the file has none."""
    return not isinstance(value, _NotRecorded)


def effective(config: Mapping[str, Any], name: str) -> Any:
    """What a run used for an option, wherever ``config.yaml`` has it.

    Args:
        config: the file's content.
        name: as on the command line. ``model.reduction`` is the class alone, ``tokens.X`` what the reducer was given
            (of several, all that were), ``model.optimizer.learning_rate`` the highest rate, the recipe's own included.

    Returns:
        The value; an object that reads "not recorded" where the file has none.
    """
    part, _, rest = name.partition(".")
    if part == "tokens":
        return effective(config, f"{_REDUCTION}.{rest}")
    if part == "data":
        return _at(config, ["data", "init_args", *rest.split(".")])
    if name.startswith("model.optimizer."):
        return _of_optimizer(_at(config, ["model", "optimizer"]), name.removeprefix("model.optimizer."))
    if name.startswith(_REDUCTION):
        return _of_reduction(config, name.removeprefix(_REDUCTION).removeprefix("."))
    value = _at(config, name.split("."))
    is_share = name.startswith(("trainer.limit_", "trainer.val_check_interval")) and isinstance(value, float)
    return None if is_share and value == 1.0 else value


def _at(config: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(config, Mapping) or key not in config:
            return _NOT_RECORDED
        config = config[key]
    return config


def _of_optimizer(given: Any, name: str) -> Any:
    if given is not None and not isinstance(given, Mapping):
        return given
    known = {field.name for field in dataclasses.fields(OptimizerOptions)}
    options = OptimizerOptions(**{key: value for key, value in (given or {}).items() if key in known})
    return options.peak_rate if name == "learning_rate" else getattr(options, name)


def _of_reduction(config: Mapping[str, Any], name: str) -> Any:
    reduction = _at(config, _REDUCTION.split("."))
    if not isinstance(reduction, Mapping | list):
        return reduction
    values = []
    for reducer in reduction if isinstance(reduction, list) else [reduction]:
        value = _at(reducer, ["init_args", name]) if name else str(_at(reducer, ["class_path"])).rpartition(".")[2]
        if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
            value = _at(config, value[2:-1].split("."))
        values.append(value)
    return values[0] if len(values) == 1 else values


def effective_batch(config: Mapping[str, Any], results: Results) -> int | None:
    """Videos in a step of the training over all processes; None if neither file tells how many processes there were."""
    whole = effective(config, "data.global_batch_size")
    if isinstance(whole, int):
        return whole
    each, devices = effective(config, _BATCH), effective(config, "trainer.devices")
    if not isinstance(each, int):
        return None
    nodes = effective(config, "trainer.num_nodes")
    if isinstance(devices, str) and devices.isdigit():
        devices = int(devices)
    if isinstance(devices, list):
        devices = len(devices)
    if isinstance(devices, int) and devices > 0 and isinstance(nodes, int):
        return each * devices * nodes
    if effective(config, "trainer.accelerator") == "cpu" and devices == "auto" and nodes == 1:
        return each  # Lightning's "auto" is one process there
    processes = _processes(config, results, each)
    return None if processes is None else each * processes


def _processes(config: Mapping[str, Any], results: Results, each: int) -> int | None:
    """Of the training, from the steps of an epoch: what a step took from the training split."""
    selection, train = results["selection"], results["counts"]["splits"].get("train")
    accumulated = effective(config, "trainer.accumulate_grad_batches")
    if train is None or selection["step"] is None or selection["epoch"] is None or not isinstance(accumulated, int):
        return None
    if any(effective(config, name) != value for name, value in _WHOLE_EPOCHS.items()):
        return None
    items = train["texts" if effective(config, "data.captions_per_video") == "all" else "videos"]
    steps, rest = divmod(selection["step"], selection["epoch"] + 1)
    possible = [n for n in range(1, _MOST_PROCESSES + 1) if steps and -(-(items // n // each) // accumulated) == steps]
    return possible[0] if len(possible) == 1 and not rest else None
