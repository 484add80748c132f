"""The options of a run, by their names on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from centerclip_pl.training.run_settings import effective, is_recorded

# Where a run lay, what it showed, and how fast it went; none of these changes what a run finds, so that runs which
# differ in nothing else are one setting. What has a column of its own is here as well.
_NO_SETTING = (
    "checkpoint.auto_insert_metric_name",
    "checkpoint.dirpath",
    "checkpoint.enable_version_counter",
    "checkpoint.filename",
    "checkpoint.save_",
    "checkpoint.verbose",
    "ckpt_path",
    "config",
    "data.cache",
    "data.check_timeout",
    "data.decoder",
    "data.eval_batch_size",
    "data.loader_timeout",
    "data.num_workers",
    "data.on_bad_video",
    "data.pin_memory",
    "data.predict_split",
    "data.root",
    "data.select_on_test",
    "data.videos",
    "experiment.",
    "model.attention",
    "model.gradient_checkpointing",
    "model.head",
    "model.reduction.after_block",
    "model.reduction.clusters",
    "model.reduction.segments",
    "postprocess.methods",
    "run_dir",
    "seed_everything",
    "tokens.",
    "trainer.accelerator",
    "trainer.barebones",
    "trainer.benchmark",
    "trainer.default_root_dir",
    "trainer.detect_anomaly",
    "trainer.enable_",
    "trainer.inference_mode",
    "trainer.limit_predict_batches",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "trainer.max_epochs",
    "trainer.model_registry",
    "trainer.num_sanity_val_steps",
    "trainer.profiler",
    "verbose",
    "wandb.",
    "weights_only",
)
_OF_SWEEPS = frozenset({"dataset", "method", "backbone", "select"})
# Without effect on weights that were not trained in the run.
_OF_TRAINING = (
    "checkpoint.",
    "data.batch_size",
    "data.captions_per_video",
    "data.train_",
    "data.training",
    "data.val_videos",
    "model.freeze_layers",
    "model.max_logit_scale",
    "model.optimizer.",
    "trainer.accumulate_grad_batches",
    "trainer.check_val_every_n_epoch",
    "trainer.devices",
    "trainer.gradient_clip_",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",
    "trainer.max_",
    "trainer.min_",
    "trainer.num_nodes",
    "trainer.overfit_batches",
    "trainer.strategy",
    "trainer.val_check_interval",
)


def settings(config: Mapping[str, Any], *, trained: bool) -> dict[str, Any]:
    """The options that may change what a run finds, apart from those with a column of their own.

    Args:
        config: the content of ``config.yaml``.
        trained: whether the run trained the weights that it tested; if not, options of training are left out.

    Returns:
        Plain values (numbers, text, None; lists as JSON) by their names on the command line. ``model.reduction`` is the
        reducer's class, ``model.backbone`` the path or name, ``data`` the class of the dataset.

    Raises:
        ConfigError: an option of the optimiser is impossible.
    """
    ignored = _NO_SETTING if trained else (*_NO_SETTING, *_OF_TRAINING)
    if not option_or(config, "postprocess.methods", None):
        ignored = (*ignored, "postprocess.")
    names = {name for name in _names(config) if not name.startswith(ignored)}
    found = {name: option(config, name) for name in sorted(names)}
    return {name: value for name, value in found.items() if is_recorded(value)}


def option(config: Mapping[str, Any], name: str) -> Any:
    """`effective` as a plain value: of several reducers what they have, one value if they agree; lists as JSON."""
    value = effective(config, name)
    if name.startswith("model.reduction.") and isinstance(value, list):
        known = [each for each in value if is_recorded(each)]
        agreed = [each for n, each in enumerate(known) if each not in known[:n]]
        value = value[0] if not known else agreed[0] if len(agreed) == 1 else agreed
    return json.dumps(value, sort_keys=True, default=str) if isinstance(value, list | tuple | dict) else value


def option_or(config: Mapping[str, Any], name: str, default: Any) -> Any:
    """:func:`option`, or ``default`` where the file has none."""
    value = option(config, name)
    return value if is_recorded(value) else default


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        if "." in key or key in _OF_SWEEPS:  # a W&B agent repeats what it set in this way
            continue
        if key == "data" and isinstance(value, Mapping):
            yield from _below("data", value.get("init_args") or {})
        elif key == "model" and isinstance(value, Mapping):
            yield from _below("model", {name: content for name, content in value.items() if name != "reduction"})
            if "reduction" in value:
                yield "model.reduction"
                yield from _of_reducers(value["reduction"])
        else:
            yield from _below(str(key), value)


def _below(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and "class_path" not in value:
        for key, content in value.items():
            yield from _below(f"{name}.{key}", content)
    else:
        yield name


def _of_reducers(reduction: Any) -> Iterator[str]:
    reducers: Sequence[Any] = reduction if isinstance(reduction, list) else [reduction]
    for reducer in reducers:
        if isinstance(reducer, Mapping):
            yield from (f"model.reduction.{name}" for name in reducer.get("init_args") or {})
