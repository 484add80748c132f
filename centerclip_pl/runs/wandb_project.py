"""Runs of a W&B project: results from their summary, options from their config, ranks from their files.

What is read there was put there by :mod:`centerclip_pl.training.wandb_results`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from centerclip_pl.errors import DataError
from centerclip_pl.runs.found import Found, FoundRun
from centerclip_pl.training.ranks_file import FILE_NAME
from centerclip_pl.training.results import check_results
from centerclip_pl.training.wandb_results import SUMMARY_KEY

PREFIX = "wandb:"
_Result = TypeVar("_Result")


def find_wandb(source: str) -> Found:
    """The runs of a W&B project.

    Args:
        source: ``wandb:ENTITY/PROJECT``, ``wandb:PROJECT`` (of the user's default entity), or one run,
            ``wandb:ENTITY/PROJECT/ID``.

    Raises:
        DataError: the name is none of these; there is no key, no such project, or no answer.
    """
    parts = _parts(source)
    api = _api(source)
    if len(parts) == 3:
        listed = [_ask(source, lambda: api.run("/".join(parts)))]
    else:
        # Not lazily: that would ask once for the list, and then once for each run.
        listed = _ask(source, lambda: list(api.runs("/".join(parts), lazy=False, per_page=100)))
    found = Found()
    for run in listed:
        name = f"{PREFIX}{run.entity}/{run.project}/{run.id}"
        content = run.summary_metrics.get(SUMMARY_KEY)
        if content is None:
            found.unfinished.append(f"{name} ({run.name}, {run.state})")
            continue
        try:
            found.runs.append(FoundRun(name, check_results(content, name), run.config or None))
        except DataError as error:
            found.bad.append(error.problem)
    return found


def download_ranks(name: str) -> Path:
    """The file with a run's ranks, downloaded into the user's cache folder unless it is there already.

    Args:
        name: ``wandb:ENTITY/PROJECT/ID``.

    Raises:
        DataError: the run has no such file; there is no key, no such run, or no answer.
    """
    parts = _parts(name)
    if len(parts) != 3:
        raise DataError(f"{name} names no run", "write wandb:ENTITY/PROJECT/ID")
    api = _api(name)
    run = _ask(name, lambda: api.run("/".join(parts)))
    # W&B answers with an empty entry where there is no such file.
    files = [file for file in _ask(name, lambda: list(run.files(names=[FILE_NAME]))) if file.size]
    if not files:
        raise DataError(
            f"{name} has no {FILE_NAME}",
            "an earlier version tested the run, or the upload has not ended: `wandb sync` its folder, or test again",
        )
    (file,) = files
    # The content's checksum is in the path: a run that was tested again has other ranks under the same name.
    content = hashlib.sha256(f"{file.md5}{file.updated_at}".encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("centerclip_pl") / "wandb" / Path(*parts) / content
    target = folder / FILE_NAME
    if not target.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
                _ask(name, lambda: file.download(root=part, replace=True)).close()
                Path(part, FILE_NAME).replace(target)
        except OSError as error:
            raise DataError(
                f"{target}: cannot be written: {error.strerror or error}",
                "make room, or name another cache folder with XDG_CACHE_HOME",
            ) from error
    return target


def _parts(source: str) -> list[str]:
    parts = source.removeprefix(PREFIX).strip("/").split("/")
    if not all(parts) or len(parts) > 3 or any(part in (".", "..") for part in parts):
        raise DataError(f"{source!r} names no W&B project", "write wandb:ENTITY/PROJECT or wandb:PROJECT")
    return parts


def _api(source: str) -> Any:
    import wandb

    return _ask(source, wandb.Api)


def _ask(source: str, question: Callable[[], _Result]) -> _Result:
    """The answer of W&B; whatever goes wrong is one message."""
    import wandb
    from wandb.apis.normalize import normalize_exceptions

    try:
        return normalize_exceptions(question)()  # W&B raises many kinds of errors; this makes them its own one
    except wandb.errors.UsageError as error:
        if "key" not in str(error).lower() and "auth" not in str(error).lower():
            raise DataError(f"{source}: W&B says: {error}") from error
        raise DataError(f"{source}: there is no W&B key", "`wandb login`, or set WANDB_API_KEY") from error
    except wandb.errors.AuthenticationError as error:
        raise DataError(
            f"{source}: W&B does not answer or refuses the key: {error}",
            "check the network and WANDB_BASE_URL; `wandb login --relogin` takes another key",
        ) from error
    except wandb.errors.Error as error:
        absent = "could not find" in str(error).lower() or "not found" in str(error).lower()
        if absent:
            raise DataError(
                f"{source}: W&B knows no such project or run, or this key may not see it: {error}",
                "check entity and project (they are in the address of its page)",
            ) from error
        raise DataError(f"{source}: W&B does not answer: {error}", "check the network, and try again") from error
