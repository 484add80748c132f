"""Where a run's figures go: ``metrics.csv`` in the run's folder always, Weights & Biases beside it."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from centerclip_pl.errors import ConfigError
from centerclip_pl.files import replacing
from centerclip_pl.training.metrics_file import PatientWriter
from centerclip_pl.training.wandb_faults import say
from centerclip_pl.training.wandb_logger import Mode, RunWandbLogger, finish_wandb, quiet_settings

__all__ = ["RunCSVLogger", "RunWandbLogger", "finish_wandb", "make_loggers", "wandb_mode"]

_OFFLINE = {"offline", "dryrun"}  # dryrun is W&B's older word for it


def make_loggers(
    run_dir: str | Path,
    project: str,
    name: str,
    config: dict[str, Any] | None = None,
    wandb: bool = True,
) -> list[Logger]:
    """The loggers of a run, for ``Trainer(logger=...)``.

    ``metrics.csv`` lies in ``run_dir`` itself. W&B's files lie in ``run_dir/wandb``. ``WANDB_MODE`` (or ``wandb
    offline``) decides whether W&B is online, offline or disabled; where nothing is said and there is no key, it is
    offline. One line on standard error says where the figures go, and how to upload them later.

    Args:
        run_dir: the run's folder; made if absent.
        project: of W&B.
        name: what the run is called in W&B.
        config: options to show in W&B; keys and passwords in it are masked.
        wandb: False leaves W&B out altogether.

    Raises:
        ConfigError: ``WANDB_MODE`` or the key is not valid.
    """
    run_dir = Path(run_dir).absolute()
    run_dir.mkdir(parents=True, exist_ok=True)
    loggers: list[Logger] = [RunCSVLogger(run_dir)]
    if wandb:
        mode, why = wandb_mode()
        _announce(mode, why, run_dir)
        if mode != "disabled":
            loggers.append(RunWandbLogger(run_dir, project, name, config, mode))
    return loggers


class RunCSVLogger(CSVLogger):
    """Lightning's CSV logger, writing exactly ``<run_dir>/metrics.csv``, which a resumed run continues.

    Lightning's own deletes the file when a logger is made for the same folder.

    Args:
        run_dir: the run's folder.
        flush_logs_every_n_steps: rows that a killed process loses at most, in steps.
    """

    def __init__(self, run_dir: str | Path, flush_logs_every_n_steps: int = 10) -> None:
        super().__init__(run_dir, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @override
    def log_dir(self) -> str:
        return str(Path(self.save_dir))

    @property
    @override
    @rank_zero_experiment
    def experiment(self) -> _ContinuingWriter:
        if self._experiment is None:
            self._experiment = _ContinuingWriter(self.log_dir)
        return cast(_ContinuingWriter, self._experiment)

    def begin_at(self, step: int) -> None:
        """A training begins or goes on at this step; rows of it and of later ones are dropped."""
        self.experiment.drop_from(step)

    @override
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Nothing: the run's options are in ``config.yaml``."""


class _ContinuingWriter(PatientWriter):
    """Appends to a ``metrics.csv`` that exists."""

    @override
    def _check_log_dir_exists(self) -> None:
        """Called by the constructor; Lightning's deletes the old file here."""
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                header = file.readline().strip()
            self.metrics_keys = header.split(",") if header else []

    def drop_from(self, step: int) -> None:
        """Drops rows that a killed run has left behind the checkpoint that is gone on from: they come again."""
        path = Path(self.metrics_file_path)
        if not path.exists() or "step" not in self.metrics_keys:
            return
        column = self.metrics_keys.index("step")
        header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if _is_before(row, column, step)]
        if len(kept) < len(rows):
            with replacing(path) as part:
                part.write_text("".join([header, *kept]), encoding="utf-8", newline="")


def _is_before(row: str, column: int, step: int) -> bool:
    """Whether a row of the CSV (numbers only, so no quotes) is of an earlier step; a cut-off row is not."""
    cells = row.split(",")
    return row.endswith("\n") and len(cells) > column and cells[column].strip().isdigit() and int(cells[column]) < step


def wandb_mode() -> tuple[Mode, str]:
    """The mode, and why it is so."""
    import pydantic
    import wandb

    if getattr(rank_zero_only, "rank", 0) != 0:  # other processes log nothing and must not start W&B's service
        return "offline", ""
    finish_wandb()  # an earlier run of this process (a notebook); Lightning would log into that one
    asked = os.environ.get("WANDB_MODE", "")
    try:
        # Before anything else of W&B: its first settings decide for the whole process what it prints.
        settings = wandb.setup(settings=quiet_settings()).settings
    except pydantic.ValidationError as error:
        reason = error.errors()[0]["msg"] if error.error_count() else str(error)
        raise ConfigError(
            f"W&B refuses its settings (WANDB_MODE={asked!r}): {reason}",
            "WANDB_MODE may be online, offline or disabled; unset the variable to decide by whether there is a key",
        ) from None
    if settings.mode == "disabled":
        return "disabled", ""
    if settings.mode in _OFFLINE:
        return "offline", "WANDB_MODE is offline" if asked else "W&B is switched off by 'wandb offline'"
    try:
        settings.silent = True  # or login asks the server who the key belongs to, only to print it
        has_key = wandb.login(verify=False, prompt=False)  # looks in the environment, W&B's settings and .netrc
    except wandb.errors.Error as error:
        raise ConfigError(f"the W&B key cannot be used: {error}", "mend it, or set WANDB_MODE=offline") from None
    finally:
        settings.silent = False
    if has_key or asked:
        return "online", ""
    return "offline", "no W&B key was found"


@rank_zero_only
def _announce(mode: Mode, why: str, run_dir: Path) -> None:
    if mode == "offline":
        with contextlib.suppress(ValueError):
            run_dir = run_dir.relative_to(Path.cwd())
        say(f"W&B: offline, because {why}. To upload: wandb login && wandb sync {run_dir}/wandb/offline-run-*")
