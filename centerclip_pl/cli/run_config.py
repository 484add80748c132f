"""``config.yaml``: what a run was told, in a form that makes another run of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from centerclip_pl.files import replacing


class SaveRunConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder: whole or not at all, and not over that of an earlier training."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, run_dir: Path) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.run_dir = run_dir

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        target = self.run_dir / "config.yaml"
        if target.exists() and stage != "fit":
            return
        options = reusable(yaml.safe_load(self.parser.dump(self.config, skip_unset=False)))
        with replacing(target) as part:
            part.write_text(yaml.safe_dump(options, sort_keys=False))


def reusable(options: dict[str, Any]) -> dict[str, Any]:
    """A run's options without what belongs to that run alone: its folders and the checkpoint it went on from.

    The reducers' numbers become references to ``tokens`` again, so that ``--tokens.segments=3`` still has its effect.
    """
    options["run_dir"] = options["ckpt_path"] = None
    options["trainer"]["default_root_dir"] = options["checkpoint"]["dirpath"] = None
    tokens = options.get("tokens") or {}
    reduction = options["model"].get("reduction")
    for reducer in reduction if isinstance(reduction, list) else [reduction] if reduction else []:
        arguments = reducer.get("init_args") or {}
        for name, value in tokens.items():
            if value is not None and arguments.get(name) == value:
                arguments[name] = f"${{tokens.{name}}}"
    return options
