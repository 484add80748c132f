"""Can these video files be used? Asked before training, of all of them, in processes that can be killed.

Each file is opened and its first, middle and last frame are decoded. A decoder that hangs or crashes takes only its
own process with it: the file is reported, and the next one gets a fresh process. Results are kept in a manifest
(:mod:`centerclip_pl.video.manifest`), so that a second run asks the file system alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from centerclip_pl.cores import usable_cores
from centerclip_pl.errors import ConfigError
from centerclip_pl.video.child import Child
from centerclip_pl.video.decode import MISSING
from centerclip_pl.video.manifest import (
    Clip,
    ClipCheck,
    ClipChecks,
    VideoCheck,
    Wanted,
    load_clips,
    load_manifest,
    save_clips,
    save_manifest,
)
from centerclip_pl.video.pool import ask_all

_WORKER = (sys.executable, "-m", "centerclip_pl.video.check_worker")
_NO_CLIPS = Wanted(1)
_SAVE_EVERY = 60.0  # seconds
_FILES_A_WORKER = 16  # a process costs about 0.3 s, a small file about 5 ms


def check_videos(
    paths: Iterable[str | Path],
    root: str | Path,
    *,
    timeout: float = 30.0,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, VideoCheck]:
    """Open and decode each file, except those that the manifest of ``root`` knows unchanged.

    Args:
        paths: the files; repetitions are checked once.
        root: the folder of the dataset, beside which the manifest is kept.
        timeout: seconds that one file may take; a file that took longer is tried again when this number grows.
        workers: processes; None: as many as there are processors, and no more than the files are worth.
        progress: whether to show a bar (it shows only on a terminal, and only where something is to be checked).

    Returns:
        For each path, as given (``str``), a :class:`VideoCheck`; its ``problem`` is None for a good file.

    Raises:
        ConfigError: ``timeout`` or ``workers`` is not positive.
        RuntimeError: the processes cannot start at all.
    """
    return _check({str(path): [] for path in paths}, root, _NO_CLIPS, timeout, workers, progress)[0]


def check_clips(
    clips: Iterable[Clip],
    root: str | Path,
    wanted: Wanted,
    *,
    timeout: float = 30.0,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, VideoCheck], dict[Clip, str | None]]:
    """As :func:`check_videos`, and decode the first, middle and last of the frames that evaluation takes of each clip.

    Args:
        clips: files, or parts of them.
        root: the folder of the dataset, beside which the results are kept.
        wanted: which frames of a clip evaluation takes.
        timeout: seconds that one file, and each part of it, may take.
        workers: processes; as for :func:`check_videos`.
        progress: as for :func:`check_videos`.

    Returns:
        The verdict on each file, as :func:`check_videos` gives it; and for each clip its problem or that of its file,
        or None.

    Raises:
        ConfigError: ``timeout`` or ``workers`` is not positive.
        RuntimeError: the processes cannot start at all.
    """
    clips_of: dict[str, list[Clip]] = {}
    for clip in dict.fromkeys(clips):
        clips_of.setdefault(clip.path, []).append(clip)
    return _check(clips_of, root, wanted, timeout, workers, progress)


class _Task(NamedTuple):
    """What is to be found out about one file."""

    entry: VideoCheck
    is_known: bool
    clips: tuple[Clip, ...]


class _Answer(NamedTuple):
    entry: VideoCheck
    clips: dict[Clip, dict[str, Any]]


def _check(
    clips_of: Mapping[str, Sequence[Clip]],
    root: str | Path,
    wanted: Wanted,
    timeout: float,
    workers: int | None,
    progress: bool,
) -> tuple[dict[str, VideoCheck], dict[Clip, str | None]]:
    if timeout <= 0:
        raise ConfigError(f"check_timeout={timeout:g}: must be positive", "use a number of seconds, e.g. 30")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: at least one process is needed")
    known = load_manifest(root)
    known_clips: ClipChecks = load_clips(root) if any(clips_of.values()) else {}
    results: dict[str, VideoCheck] = {}
    problems: dict[Clip, str | None] = {}
    todo: list[_Task] = []
    for path, clips in clips_of.items():
        try:
            status = Path(path).stat()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            reason = MISSING if missing else f"cannot be opened: {error.strerror}"
            results[path] = VideoCheck(path, problem=reason)  # never kept: a file that appears is looked at
            continue
        entry, absolute, waiting = VideoCheck(path, status.st_size, status.st_mtime_ns), str(Path(path).absolute()), []
        before = known.get(absolute)
        is_known = before is not None and before.still_holds(entry.size, entry.mtime_ns, timeout)
        if before is not None and is_known:
            results[path] = entry = before._replace(path=path)
        for clip in clips if entry.problem is None else ():
            seen = known_clips.get((clip._replace(path=absolute), wanted))
            if seen is not None and seen.still_holds(entry.size, entry.mtime_ns, timeout):
                problems[clip] = seen.problem
            else:
                waiting.append(clip)
        if waiting or not is_known:
            todo.append(_Task(entry, is_known, tuple(waiting)))

    def take(answer: _Answer) -> None:
        entry = results[answer.entry.path] = answer.entry
        absolute = str(Path(entry.path).absolute())
        known[absolute] = entry
        for clip, verdict in answer.clips.items():
            problems[clip] = verdict["problem"]
            kept = clip._replace(path=absolute)
            known_clips[kept, wanted] = ClipCheck(kept, wanted, entry.size, entry.mtime_ns, **verdict)

    def save() -> None:
        save_manifest(root, known)
        if known_clips:
            save_clips(root, known_clips)

    if todo:
        if workers is None:
            workers = min(usable_cores(), 16)
        try:
            _examine_all(todo, wanted, timeout, min(workers, -(-len(todo) // _FILES_A_WORKER)), progress, take, save)
        finally:  # what is known when the user interrupts need not be found out again
            save()
    for path, clips in clips_of.items():  # without its file no part of it can be used
        problems.update((clip, results[path].problem) for clip in clips if results[path].problem is not None)
    return {path: results[path] for path in clips_of}, problems


def _examine_all(
    todo: Sequence[_Task],
    wanted: Wanted,
    timeout: float,
    workers: int,
    progress: bool,
    take: Callable[[_Answer], None],
    save: Callable[[], None],
) -> None:
    """Hand each answer to ``take``, and now and then ``save``."""
    saved = time.monotonic()
    with closing(ask_all(todo, _WORKER, partial(_ask, wanted=wanted, timeout=timeout), workers)) as answers:
        for answer in tqdm(
            answers, total=len(todo), desc="checking videos", unit="file", disable=None if progress else True
        ):
            take(answer)
            if time.monotonic() - saved > _SAVE_EVERY:  # a job that is killed leaves no time for it
                save()
                saved = time.monotonic()


def _ask(child: Child, task: _Task, wanted: Wanted, timeout: float) -> _Answer:
    entry, is_known = task.entry, task.is_known
    verdicts: dict[Clip, dict[str, Any]] = {}
    # A clip that is a whole file is looked at together with it, in one go.
    clips = sorted(task.clips, key=lambda clip: not _is_file(clip, wanted))
    if clips and _is_file(clips[0], wanted):
        fresh = VideoCheck(entry.path, entry.size, entry.mtime_ns)
        entry, is_known = fresh._replace(**child.ask({"path": entry.path, **wanted._asdict()}, timeout)), True
        verdicts[clips.pop(0)] = {"problem": entry.problem, "timeout": entry.timeout}
    if not is_known:
        entry = entry._replace(**child.ask(entry.path, timeout))
    for clip in clips if entry.problem is None else ():
        if child.is_interrupted:
            break
        answer = child.ask({**clip._asdict(), **wanted._asdict()}, timeout)
        verdicts[clip] = {"problem": answer["problem"], "timeout": answer.get("timeout")}
    return _Answer(entry, verdicts)


def _is_file(clip: Clip, wanted: Wanted) -> bool:
    return clip.start is None and clip.end is None and wanted.fps is None
