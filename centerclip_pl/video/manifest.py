"""What is known of the video files of a dataset, kept beside them between runs.

Parquet files in ``<root>/.centerclip``, or in the user's cache folder where the dataset's folder cannot be written:
``checked.parquet``, one row a file, which every training asks, and ``clips.parquet``, one row for each file or part of
one whose wanted frames were looked at (``centerclip data verify``). An entry holds as long as the file's size and time
of change stay the same. They are caches: delete them at will.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from centerclip_pl.files import replacing
from centerclip_pl.video.decode import MISSING

_log = logging.getLogger(__name__)
_RULES = 1  # raise it when the check learns to see more, so that old verdicts are not believed
_CHECKED, _CLIPS = "checked.parquet", "clips.parquet"


class VideoCheck(NamedTuple):
    """The verdict on one file."""

    path: str
    size: int = -1
    """Bytes; -1 where the file cannot be looked at."""
    mtime_ns: int = -1
    """Time of the last change, in nanoseconds; -1 where the file cannot be looked at."""
    num_frames: int = 0
    fps: float = 0.0
    duration: float = 0.0
    """Seconds."""
    width: int = 0
    height: int = 0
    problem: str | None = None
    """A short clause, e.g. ``"is empty (0 bytes)"``; None for a file that can be used."""
    timeout: float | None = None
    """Where the problem is the time limit: that limit, in seconds."""

    @property
    def missing(self) -> bool:
        """Whether there is no such file (rather than a broken one)."""
        return self.problem == MISSING

    def still_holds(self, size: int, mtime_ns: int, timeout: float) -> bool:
        """Whether the verdict is valid for a file of this size and time, given this time limit."""
        unchanged = (self.size, self.mtime_ns) == (size, mtime_ns)
        return unchanged and (self.timeout is None or timeout <= self.timeout)


class Clip(NamedTuple):
    """A file, or a part of it."""

    path: str
    start: float | None = None
    """Seconds; None: from the beginning."""
    end: float | None = None
    """Seconds; None: to the end."""


class Wanted(NamedTuple):
    """Which frames of a clip evaluation takes."""

    num_frames: int
    fps: float | None = None
    """Frames a second to choose from; None: all."""
    sampling: str = "uniform"
    """``"uniform"``, ``"head"`` or ``"tail"``."""


class ClipCheck(NamedTuple):
    """The verdict on the wanted frames of one clip."""

    clip: Clip
    wanted: Wanted
    size: int
    mtime_ns: int
    problem: str | None = None
    timeout: float | None = None

    def still_holds(self, size: int, mtime_ns: int, timeout: float) -> bool:
        """As :meth:`VideoCheck.still_holds`, for the file of the clip."""
        return VideoCheck(self.clip.path, self.size, self.mtime_ns, timeout=self.timeout).still_holds(
            size, mtime_ns, timeout
        )


ClipChecks = dict[tuple[Clip, Wanted], ClipCheck]


def manifest_paths(root: str | Path, name: str = _CHECKED) -> tuple[Path, Path]:
    """Where a file that is kept about a dataset may lie: beside the data, or in the user's cache."""
    import platformdirs

    absolute = Path(root).resolve()
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16]
    folder = platformdirs.user_cache_path("centerclip_pl") / "checked"
    cache = folder / (f"{digest}.parquet" if name == _CHECKED else f"{digest}-{name}")
    return absolute / ".centerclip" / name, cache


def write_beside(root: str | Path, name: str, write: Callable[[Path], object]) -> Path | None:
    """Write a file about a dataset beside its data, or else into the user's cache; it appears whole or not at all.

    Args:
        root: the folder of the dataset.
        name: of the file.
        write: told where to write.

    Returns:
        Where it lies now; None where neither place can be written.
    """
    for file in manifest_paths(root, name):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as part:
                write(part)
            return file
        except OSError as error:
            _log.debug("nothing is kept at %s: %s", file, error)
    return None


def load_manifest(root: str | Path) -> dict[str, VideoCheck]:
    """All entries by absolute path. Empty where there is no manifest, or none that can be read."""
    return {str(row["path"]): VideoCheck(**row) for row in _load(root, _CHECKED)}


def save_manifest(root: str | Path, entries: Mapping[str, VideoCheck]) -> None:
    """Write all entries (by absolute path), atomically; a reader sees the old file or the new one."""
    rows = [entry._asdict() for entry in entries.values()]
    _save(root, _CHECKED, rows, list(VideoCheck._fields), list(entries), {"problem": "string", "timeout": "float64"})


def load_clips(root: str | Path) -> ClipChecks:
    """All verdicts on clips, whose paths are absolute. Empty where there are none that can be read."""
    checks: ClipChecks = {}
    for row in _load(root, _CLIPS):
        clip = Clip(*(row.pop(name) for name in Clip._fields))
        wanted = Wanted(*(row.pop(name) for name in Wanted._fields))
        checks[clip, wanted] = ClipCheck(clip, wanted, **row)
    return checks


def save_clips(root: str | Path, checks: ClipChecks) -> None:
    """Write all verdicts on clips, whose paths are absolute, atomically."""
    facts = ClipCheck._fields[2:]
    rows = [
        {**clip._asdict(), **wanted._asdict(), **{name: getattr(check, name) for name in facts}}
        for (clip, wanted), check in checks.items()
    ]
    columns = [*Clip._fields, *Wanted._fields, *facts]
    kinds = {"problem": "string", **dict.fromkeys(("start", "end", "fps", "timeout"), "float64")}
    _save(root, _CLIPS, rows, columns, [clip.path for clip, _ in checks], kinds)


def _load(root: str | Path, name: str) -> list[dict[str, Any]]:
    """The rows of a kept file, paths made absolute; those that lie beside the data come last, and so are believed."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    base = Path(root).absolute()
    for file in reversed(manifest_paths(root, name)):
        if not file.is_file():
            continue
        try:
            table = pd.read_parquet(file)
            if (table.pop("rules") != _RULES).any():
                continue
            found = []
            for row in table.to_dict("records"):
                fields: dict[str, Any] = {str(key): None if pd.isna(value) else value for key, value in row.items()}
                fields["path"] = str(base / fields["path"])  # an absolute path stays as it is
                found.append(fields)
            rows += found
        except Exception as error:  # a cache that cannot be read costs a second check and nothing else
            _log.warning("%s cannot be read and is made anew (%s)", file, error)
    return rows


def _save(
    root: str | Path,
    name: str,
    rows: list[dict[str, Any]],
    columns: list[str],
    paths: list[str],
    kinds: Mapping[str, str],
) -> None:
    import pandas as pd

    table = pd.DataFrame(rows, columns=columns)
    # Paths below the root are kept relative, so that a dataset that moves keeps what is known of it.
    prefix = f"{Path(root).absolute()}{os.sep}"
    table["path"] = [path.removeprefix(prefix) for path in paths]
    table = table.astype(dict(kinds)).assign(rules=_RULES)
    if write_beside(root, name, lambda part: table.to_parquet(part, index=False)) is None:
        _log.warning("the results of the check can be kept nowhere; the next run checks all videos again")
