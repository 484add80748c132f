"""What is known of the video files of a dataset, kept beside them between runs.

One parquet file, ``<root>/.centerclip/checked.parquet``, or one in the user's cache folder where the dataset's folder
cannot be written. An entry holds as long as the file's size and time of change stay the same. It is a cache: delete it
at will.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from centerclip_pl.files import replacing
from centerclip_pl.video.decode import MISSING

_log = logging.getLogger(__name__)
_RULES = 1  # raise it when the check learns to see more, so that old verdicts are not believed


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


def manifest_paths(root: str | Path) -> tuple[Path, Path]:
    """Where the manifest of a dataset may lie: beside the data, or in the user's cache."""
    import platformdirs

    absolute = Path(root).resolve()
    name = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16]
    cache = platformdirs.user_cache_path("centerclip_pl") / "checked" / f"{name}.parquet"
    return absolute / ".centerclip" / "checked.parquet", cache


def load_manifest(root: str | Path) -> dict[str, VideoCheck]:
    """All entries by absolute path. Empty where there is no manifest, or none that can be read."""
    import pandas as pd

    entries: dict[str, VideoCheck] = {}
    base = Path(root).absolute()
    for file in reversed(manifest_paths(root)):  # what lies beside the data is believed over the cache
        if not file.is_file():
            continue
        try:
            table = pd.read_parquet(file)
            if (table.pop("rules") != _RULES).any():
                continue
            for row in table.to_dict("records"):
                fields: dict[str, Any] = {str(name): None if pd.isna(value) else value for name, value in row.items()}
                fields["path"] = path = str(base / fields["path"])  # an absolute path stays as it is
                entries[path] = VideoCheck(**fields)
        except Exception as error:  # a cache that cannot be read costs a second check and nothing else
            _log.warning("%s cannot be read and is made anew (%s)", file, error)
    return entries


def save_manifest(root: str | Path, entries: Mapping[str, VideoCheck]) -> None:
    """Write all entries (by absolute path), atomically; a reader sees the old file or the new one."""
    import pandas as pd

    table = pd.DataFrame([entry._asdict() for entry in entries.values()], columns=VideoCheck._fields)
    # Paths below the root are kept relative, so that a dataset that moves keeps its manifest.
    prefix = f"{Path(root).absolute()}{os.sep}"
    table["path"] = [path.removeprefix(prefix) for path in entries]
    table = table.astype({"problem": "string", "timeout": "float64"}).assign(rules=_RULES)
    for file in manifest_paths(root):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as part:
                table.to_parquet(part, index=False)
            return
        except OSError as error:
            _log.debug("no manifest at %s: %s", file, error)
    _log.warning("the results of the check can be kept nowhere; the next run checks all videos again")
