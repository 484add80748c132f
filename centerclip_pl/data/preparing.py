"""All videos of a dataset to small ones, in parallel, so that a call goes on where an earlier one was ended.

Nothing heavy is imported here: training asks :func:`prepared_path` where the small files lie.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from centerclip_pl.cores import usable_cores
from centerclip_pl.data.unwritable import cannot_write, shown_bytes
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.video.child import Child
from centerclip_pl.video.pool import ask_all

if TYPE_CHECKING:
    from centerclip_pl.data.prepared_index import PreparedFolder, Source
    from centerclip_pl.video.transcode import Settings

_log = logging.getLogger(__name__)
_WORKER = (sys.executable, "-m", "centerclip_pl.video.transcode_worker")
_LEAST_FREE = 64 * 2**20  # bytes
_ENOUGH_TO_ESTIMATE = 20  # files
_OUTSIDE = "_outside"


def prepared_path(out: Path, root: Path, path: str) -> Path:
    """Where the small file of a video lies.

    Args:
        out: the folder of prepared videos.
        root: the folder of the dataset.
        path: the video.

    Returns:
        Below ``out``, where the video lies below ``root``, with ``.mp4`` behind it unless it ends so; for a video
        elsewhere, below ``out/_outside``; for one that lies below ``out``, itself.
    """
    absolute, folder, place = (Path(os.path.normpath(Path(item).absolute())) for item in (path, root, out))
    if absolute.is_relative_to(place):
        return out / absolute.relative_to(place)
    if absolute.is_relative_to(folder):
        target = out / absolute.relative_to(folder)
    else:
        target = out / _OUTSIDE / hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16] / absolute.name
    return target if target.name.endswith(".mp4") else target.with_name(f"{target.name}.mp4")


class Prepared(NamedTuple):
    """What has come of a call."""

    new: int
    """Files written."""
    kept: int
    """Files that were there already."""
    problems: dict[str, str]
    """For each video that cannot be used, the reason."""


class _Task(NamedTuple):
    path: str
    target: Path
    source: Source


class _Answer(NamedTuple):
    task: _Task
    problem: str | None
    num_bytes: int


def prepare_videos(
    paths: Iterable[str],
    root: str | Path,
    out: str | Path,
    settings: Settings,
    *,
    jobs: int | None = None,
    timeout: float = 600.0,
    overwrite: bool = False,
    progress: bool = True,
    dataset: str | None = None,
) -> Prepared:
    """Transcode each video to its :func:`prepared_path`, except those that are there, made of the same file.

    The call may be ended at any time, in any way: the next one does what is left.

    Args:
        paths: the videos; repetitions count once.
        root: the folder of the dataset.
        out: the folder to write, new or of an earlier call with the same settings.
        settings: of the small files.
        jobs: processes; None: one for each core.
        timeout: seconds that one video may take, beyond its playing time.
        overwrite: transcode all of them, whatever is there.
        progress: whether to show a bar (it shows only on a terminal).
        dataset: its name, so that no folder gets the videos of two; None: any.

    Raises:
        ConfigError: an option that cannot work; ``out`` holds something else, videos of another
            dataset, or was made with other settings.
        DataError: nothing more can be written; two videos would become the same file; the videos are themselves those
            of ``out``.
        RuntimeError: the processes cannot start at all.
    """
    from centerclip_pl.data.prepared_index import PreparedFolder

    settings.check()
    jobs = usable_cores() if jobs is None else jobs
    if jobs < 1:
        raise ConfigError(f"jobs={jobs}: at least one process is needed", "leave it out: one for each core")
    if not timeout > 0:
        raise ConfigError(f"timeout={timeout:g}: must be positive", "use a number of seconds, e.g. 600")
    out = Path(os.path.normpath(Path(out).absolute()))
    targets = _targets(dict.fromkeys(paths), Path(root), out)
    with PreparedFolder(out, settings._asdict(), overwrite, dataset) as folder:
        todo, problems = _todo(targets, folder)
        if todo:
            _check_room(out)
            problems.update(_transcode_all(todo, folder, settings, min(jobs, len(todo)), timeout, progress))
    new = sum(task.path not in problems for task in todo)
    return Prepared(
        new, len(targets) - new - len(problems), {path: problems[path] for path in targets if path in problems}
    )


def _targets(paths: Iterable[str], root: Path, out: Path) -> dict[str, Path]:
    targets: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for path in paths:
        target = prepared_path(out, root, path)
        if Path(os.path.normpath(Path(path).absolute())).is_relative_to(out):
            raise DataError(
                f"{path}: this video lies in {out}, where the prepared videos are to be written",
                "put the published videos where the dataset expects them, or name another folder with --out",
            )
        if taken.setdefault(target, path) != path:
            raise DataError(f"{taken[target]} and {path} would both become {target}", "rename one of them")
        targets[path] = target
    return targets


def _todo(targets: dict[str, Path], folder: PreparedFolder) -> tuple[list[_Task], dict[str, str]]:
    from centerclip_pl.data.prepared_index import Source
    from centerclip_pl.video.decode import MISSING

    todo: list[_Task] = []
    problems: dict[str, str] = {}
    for path, target in targets.items():
        try:
            source = Source.of(path)
        except (FileNotFoundError, NotADirectoryError):
            if not folder.is_done(target, None):  # else the large file has been removed since, to save space
                problems[path] = MISSING
        except OSError as error:
            problems[path] = f"cannot be opened: {error.strerror}"
        else:
            if not folder.is_done(target, source):
                todo.append(_Task(path, target, source))
    return todo, problems


def _check_room(out: Path) -> None:
    from centerclip_pl.data.prepared_index import KEPT

    free = shutil.disk_usage(out).free
    if free < _LEAST_FREE:
        raise cannot_write(out, OSError(errno.ENOSPC, f"only {free / 2**20:.0f} MiB are free"), KEPT)


def _transcode_all(
    todo: Sequence[_Task], folder: PreparedFolder, settings: Settings, jobs: int, timeout: float, progress: bool
) -> dict[str, str]:
    """Have the videos transcoded by ``jobs`` processes; the problems by path."""
    from tqdm import tqdm

    problems: dict[str, str] = {}
    sizes: list[int] = []
    command = (*_WORKER, json.dumps(settings._asdict()))
    with closing(ask_all(todo, command, partial(_ask, out=folder.out, timeout=timeout), jobs)) as answers:
        bar = tqdm(answers, total=len(todo), desc="preparing", unit="video", disable=None if progress else True)
        for count, answer in enumerate(bar, start=1):
            if answer.problem is not None:
                problems[answer.task.path] = answer.problem
                continue
            folder.add(answer.task.target, answer.task.source, answer.num_bytes)
            sizes.append(answer.num_bytes)
            if len(sizes) == _ENOUGH_TO_ESTIMATE:
                _warn_if_short(folder.out, sum(sizes) / len(sizes) * (len(todo) - count))
    return problems


def _ask(child: Child, task: _Task, out: Path, timeout: float) -> _Answer:
    from centerclip_pl.data.prepared_index import KEPT

    try:
        task.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error, KEPT) from error
    reply = child.ask({"source": task.path}, timeout)
    if reply["problem"] is None and not child.is_interrupted:
        request = {"source": task.path, "target": str(task.target)}
        reply = child.ask(request, timeout + reply["duration"])
        if reply["problem"] is not None:  # the process may have been killed before it could tidy up
            for part in task.target.parent.glob(".*.part"):
                if part.name.startswith(f".{task.target.name}."):
                    part.unlink(missing_ok=True)
    if reply.get("fatal") is not None:
        raise cannot_write(out, str(reply["fatal"]), KEPT)
    return _Answer(task, reply["problem"], reply.get("num_bytes", 0))


def _warn_if_short(out: Path, needed: float) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        _log.warning(
            "%s: about %s will be needed and %s are free; the work goes on until the disk is full",
            *(out, shown_bytes(needed), shown_bytes(free)),
        )
