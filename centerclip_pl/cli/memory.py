"""``memory``: how much memory a training step will take, what fits on which GPU, and what would help."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from centerclip_pl.training.memory import Training

_DESCRIPTION = """Predicts the peak memory of a training step without running one: no videos, no weights and no GPU are
needed, and nothing is downloaded. Takes the words of `centerclip train` (--dataset, --method, --backbone) or of
`centerclip fit` (--config), and all their options."""


def memory_command(words: list[str]) -> None:
    """Predicts: ``memory --dataset NAME | --config FILE [options of fit] [--json] | --table``.

    Args:
        words: behind ``centerclip memory``.

    Raises:
        ConfigError: options that cannot work, or a strategy or precision whose memory is not known.
        CheckpointError: the sizes of the backbone are not known.
    """
    options, rest = _parser().parse_known_args(words)
    if options.table:
        if rest:
            raise ConfigError(f"--table takes no other options, but there is {rest[0]}", "leave one of the two out")
        from centerclip_pl.cli.memory_document import published_tables

        print(published_tables())
        return

    from centerclip_pl.cli.check_words import check_words
    from centerclip_pl.cli.experiment import fit_words
    from centerclip_pl.cli.memory_table import Found, as_json, show

    by_file = any(word.split("=")[0] in ("--config", "-c") for word in rest)
    parsed = check_words(["fit", *rest] if by_file else fit_words(rest))
    training, assumed = training_of(parsed)

    from centerclip_pl.training.memory import largest_batches, predict, savings

    prediction = predict(training)
    found = Found(
        training=training,
        backbone=parsed.model.backbone,
        prediction=prediction,
        fits=largest_batches(training),
        savings=savings(training, prediction, parsed.tokens.as_dict()),
        notes=assumed,
    )
    if options.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        show(found)


def training_of(options: Namespace) -> tuple[Training, list[str]]:
    """What the options of a ``fit`` train, and what had to be assumed.

    Args:
        options: as :func:`centerclip_pl.cli.check_words.check_words` returns them.

    Raises:
        ConfigError, CheckpointError: see `memory_command`.
    """
    from pydoc import locate

    from centerclip_pl.training.memory import Training, clip_config, precision_name
    from centerclip_pl.training.optim import OptimizerOptions

    model, data, trainer = options.model.as_dict(), options.data.init_args, options.trainer
    clip = clip_config(str(model.pop("backbone")))
    model.pop("num_frames", None)  # linked to the data's
    reduction = model.pop("reduction", None)
    listed = reduction if isinstance(reduction, list) else [reduction] if reduction else []
    model["reduction"] = [(locate(each["class_path"]), dict(each.get("init_args") or {})) for each in listed]
    if model.get("optimizer") is not None:
        model["optimizer"] = OptimizerOptions(**model["optimizer"])
    processes, notes = _processes(trainer)
    text: Any = clip.text_config
    words = text.max_position_embeddings
    if data.max_words > words:
        raise ConfigError(
            f"max_words is {data.max_words}, but the backbone's text transformer takes {words} tokens",
            f"set --data.max_words={words} or lower",
        )
    whole = data.global_batch_size
    if whole is not None and whole % processes:
        raise ConfigError(
            f"global_batch_size={whole} cannot be divided among {processes} processes",
            f"take a multiple: --data.global_batch_size={-(-whole // processes) * processes}",
        )
    training = Training(
        clip=clip,
        model=model,
        batch_size=data.batch_size if whole is None else whole // processes,
        frames=data.num_frames,
        words=data.max_words,
        precision=precision_name(trainer.precision),
        accumulate=int(trainer.accumulate_grad_batches),
        processes=processes,
        bucket_view=_bucket_view(trainer.strategy),
        clip_norm=trainer.gradient_clip_val,
        clip_algorithm=trainer.gradient_clip_algorithm or "norm",
    )
    return training, notes


def _processes(trainer: Namespace) -> tuple[int, list[str]]:
    """How many train together, and a note where the options leave it to the machine."""
    devices = trainer.devices
    if isinstance(devices, str) and devices.lstrip("-").isdecimal():
        devices = int(devices)
    if isinstance(devices, str) and devices != "auto":
        devices = [number for number in devices.split(",") if number.strip()]
    if isinstance(devices, list):
        return len(devices) * trainer.num_nodes, []
    if isinstance(devices, int) and devices > 0:
        return devices * trainer.num_nodes, []
    note = f"--trainer.devices={devices} depends on the machine; one GPU a node was assumed (--trainer.devices=N)"
    return int(trainer.num_nodes), [note]


def _bucket_view(strategy: Any) -> bool:
    """Whether DDP keeps gradients in what it sends.

    Raises:
        ConfigError: another strategy than DDP, under which weights and states lie elsewhere.
    """
    name = strategy if isinstance(strategy, str) else strategy.class_path.rpartition(".")[2]
    if not (name in ("auto", "DDPStrategy", "SingleDeviceStrategy") or name.startswith("ddp")):
        raise ConfigError(
            f"the memory of trainer.strategy={name} is not known", "choose auto or ddp, or leave the strategy out"
        )
    options = {} if isinstance(strategy, str) else (strategy.get("init_args") or {})
    return bool(dict(options).get("gradient_as_bucket_view", False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="centerclip memory", allow_abbrev=False, description=_DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print all figures as JSON, in bytes")
    parser.add_argument(
        "--table", action="store_true", help="print the published settings as Markdown, as docs/memory.md has them"
    )
    return parser
