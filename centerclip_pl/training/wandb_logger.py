"""The W&B logger of a run: quiet, with all of its files in the run's folder, and no reason for a training to end."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from unittest import mock

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.masking import mask_config
from centerclip_pl.training.wandb_faults import in_time, say, surviving

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline", "disabled"]
_ID_FILE = "run-id.txt"
# Seconds that W&B may take to begin, and to send the rest at the end; its own variables say otherwise.
_TIMEOUTS = {"init_timeout": 60.0, "finish_timeout": 120.0}
_TABLE_TIMEOUT = 60.0  # seconds; it is the one thing for which W&B asks its server while the run waits


class RunWandbLogger(WandbLogger):
    """Lightning's W&B logger with all of its files in ``<run_dir>/wandb`` and without chatter.

    Online, a run that is resumed in the same folder goes on in W&B as the same run (its id is kept in
    ``wandb/run-id.txt``). Offline, each process writes a folder of its own, because W&B cannot append to one.

    Where the server cannot be reached at the start, the run is offline, unless ``WANDB_MODE=online`` or a sweep's agent
    insist. Later W&B's own process holds what it cannot send, and tries again; should it fail itself, that is said once
    and the training goes on without it.

    Args:
        run_dir: the run's folder.
        project: of W&B.
        name: what the run is called.
        config: options to show; masked here.
        mode: ``"online"`` or ``"offline"``.
    """

    def __init__(
        self, run_dir: str | Path, project: str, name: str, config: dict[str, Any] | None, mode: Mode = "offline"
    ) -> None:
        self._files = Path(run_dir) / "wandb"
        super().__init__(
            name=name,
            save_dir=str(run_dir),
            project=project,
            group=name,
            mode=mode,
            resume="allow" if mode == "online" else None,
            id=self._kept_id() if mode == "online" else None,
            config=mask_config(config or {}),
            settings=quiet_settings(),
        )
        # Lightning 2.6 passes it always; W&B no longer knows it and warns.
        self._wandb_init.pop("anonymous", None)
        self._mode = mode

    @property
    @override
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        """The W&B run, started when it is first asked for.

        Raises:
            ConfigError: W&B refuses the key, or cannot be reached although it was asked for by name.
        """
        import wandb

        if self._experiment is None:
            try:
                run = self._started()
            except wandb.errors.Error as error:
                away = isinstance(error, wandb.errors.CommError)
                refused = isinstance(error, wandb.errors.AuthenticationError) or "40" in _status_of(error)
                insists = os.environ.get("WANDB_MODE") == "online" or "WANDB_SWEEP_ID" in os.environ
                if not away or refused or insists or self._mode != "online":
                    raise ConfigError(
                        f"W&B cannot start the run: {error}",
                        "set WANDB_MODE=offline (or disabled), or mend what it says",
                    ) from error
                say(
                    f"warning: W&B cannot be reached, so this run is offline ({_first_line(error)}). "
                    f"To upload: wandb sync {self._files}/offline-run-*"
                )
                self._mode = "offline"
                self._wandb_init |= {"mode": "offline", "resume": None, "id": None}
                run = self._started()
            if self._mode == "online":
                (self._files / _ID_FILE).write_text(run.id + "\n", encoding="utf-8")
                say(f"W&B: {run.url}")
        return cast("wandb.Run", self._experiment)

    def _started(self) -> wandb.Run:
        # WandbLogger's property is wrapped for rank zero, as this one is.
        return cast("wandb.Run", WandbLogger.experiment.fget(self))  # type: ignore[attr-defined]

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """As Lightning's; see the class."""
        with surviving(self.experiment):
            super().log_metrics(metrics, step)

    @override
    @rank_zero_only
    def log_table(self, key: str, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, with the table's pictures, which are staged for upload, kept with the run."""
        log_table = super().log_table
        with surviving(self.experiment), self._staged_in_run_dir():
            in_time(lambda: log_table(key, *args, **kwargs), _TABLE_TIMEOUT, f"the table {key}")

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        with surviving(self.experiment):
            super().log_hyperparams(mask_config(vars(params) if isinstance(params, Namespace) else params))

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            with surviving(self.experiment):
                super().finalize(status)

    @contextlib.contextmanager
    def _staged_in_run_dir(self) -> Iterator[None]:
        """W&B has no setting for its staging folder, only this variable, which it reads whenever it stages a file."""
        here = {} if os.environ.get("WANDB_DATA_DIR") else {"WANDB_DATA_DIR": str(self._files)}
        with mock.patch.dict(os.environ, here):
            yield

    def _kept_id(self) -> str | None:
        path = self._files / _ID_FILE
        return path.read_text(encoding="utf-8").strip() or None if path.exists() else None


def quiet_settings() -> wandb.Settings:
    """No header, footer or capture of the console, and no waiting without end; warnings and errors are shown."""
    import wandb

    timeouts: dict[str, Any] = {
        name: seconds for name, seconds in _TIMEOUTS.items() if f"WANDB_{name.upper()}" not in os.environ
    }
    return wandb.Settings(
        quiet=True, show_info=False, console="off", save_code=False, finish_timeout_raises=True, **timeouts
    )


def finish_wandb(exit_code: int | None = None) -> None:
    """Ends the W&B run of this process, if there is one, and waits a bounded time for what it has yet to send.

    Args:
        exit_code: of the command; W&B shows a run with another than 0 as failed.
    """
    module = sys.modules.get("wandb")
    run = getattr(module, "run", None)
    if run is None:
        return
    bound = float(run.settings.finish_timeout or _TIMEOUTS["finish_timeout"]) + 15.0  # W&B's own process may hang too
    with surviving(run, last=True):
        in_time(lambda: run.finish(exit_code=exit_code), bound, "the end of the run")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def _status_of(error: BaseException) -> str:
    """The HTTP status that W&B's message speaks of, where it does."""
    import re

    found = re.search(r"\b(?:HTTP|status|error|code)[ :]*(\d{3})\b", str(error), re.IGNORECASE)
    return found[1] if found else ""
