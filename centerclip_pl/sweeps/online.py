"""A sweep in a W&B project: made there, and worked on by W&B's own agent."""

from __future__ import annotations

import subprocess
import sys

from centerclip_pl.errors import ConfigError
from centerclip_pl.sweeps.sweep_file import Sweep


def create(sweep: Sweep, project: str, entity: str | None) -> str:
    """Makes the sweep in W&B, as ``wandb sweep FILE`` does.

    Returns:
        What ``wandb agent`` takes: ``entity/project/id``, or ``project/id``.

    Raises:
        ConfigError: W&B refuses it, or cannot be reached.
    """
    import requests
    import wandb

    config = {"name": sweep.name, **sweep.config}
    try:
        made = wandb.sweep(config, project=project, entity=entity)
    except (wandb.errors.Error, requests.RequestException, ValueError) as error:
        raise ConfigError(
            f"W&B did not take the sweep {sweep.name}: {error}",
            "see whether `wandb login` works and the project exists, or run it here alone with --offline",
        ) from error
    return "/".join(part for part in (entity, project, made) if part)


def work(sweep_id: str, count: int | None) -> int:
    """Runs ``wandb agent`` on a sweep until it has nothing left; returns the agent's status."""
    limit = [] if count is None else ["--count", str(count)]
    return subprocess.run([sys.executable, "-m", "wandb", "agent", *limit, sweep_id], check=False).returncode
