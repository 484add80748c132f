"""A dataset's folder against what its owners offer: what is there, what can be fetched, what the user has to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from centerclip_pl.data.download.archives import unpack
from centerclip_pl.data.download.fetching import Patience, fetch
from centerclip_pl.data.download.members import DamagedError
from centerclip_pl.data.download.partial import unwritable
from centerclip_pl.data.download.records import record_of
from centerclip_pl.data.download.sources import PARTS, SOURCES, STEPS, Part, Source, Step
from centerclip_pl.data.expected import other_counts
from centerclip_pl.errors import DataError
from centerclip_pl.files import replacing

if TYPE_CHECKING:
    import pandas as pd

    from centerclip_pl.data.datamodule import RetrievalDataModule

_FOLDER = "downloads"  # below the dataset's root


@dataclass(frozen=True)
class State:
    """What a dataset's folder holds."""

    there: tuple[Source, ...]
    """Sources of which nothing is missing."""
    absent: tuple[Source, ...]
    """Sources to fetch."""
    steps: tuple[Step, ...]
    """What the user has to do, of parts that are not complete."""
    videos: tuple[int, int] | None
    """Video files that are there, and those that the captions name; None: there are no captions yet."""
    problem: DataError | None
    """Why there are no captions."""
    other_counts: tuple[str, ...] = ()
    """Where the annotation files list another number of videos than is published, a clause for each such split."""

    @property
    def is_damaged(self) -> bool:
        """Whether all annotation files are there, so that none is fetched, and cannot be used."""
        there, absent = ({source.part for source in sources} for sources in (self.there, self.absent))
        return self.problem is not None and "annotations" in there - absent


def look(data: RetrievalDataModule, parts: Sequence[Part] = PARTS) -> State:
    """Compare a dataset's folder with what its owners offer. Nothing is asked of any server.

    Args:
        data: the dataset; only its root and its captions are used.
        parts: what is of interest.
    """
    videos, problem, others = None, None, []
    try:
        tables = _tables(data)
        videos = _count_videos(tables)
        others = other_counts(data, tables)
    except DataError as error:
        problem = error
    complete = videos is not None and videos[0] == videos[1]
    there: list[Source] = []
    absent: list[Source] = []
    for source in SOURCES.get(data.name, ()):
        if source.part not in parts:
            continue
        is_there = _has_files(data.root, source) if source.part == "annotations" else complete
        (there if is_there or _is_unpacked(data.root, source) else absent).append(source)
    missing = {"annotations": videos is None, "videos": not complete}
    steps = [step for step in STEPS.get(data.name, ()) if any(part in parts and missing[part] for part in step.parts)]
    return State(tuple(there), tuple(absent), tuple(steps), videos, problem, tuple(others))


def obtain(source: Source, root: Path, *, keep_archive: bool = False, patience: Patience | None = None) -> int:
    """Fetch a source and put its files in place, below `root` as the archive has them.

    Args:
        source: what to fetch.
        root: the dataset's folder; made if need be.
        keep_archive: keep ``root/downloads/NAME`` once it is unpacked. Its hash is kept in any case.
        patience: when to give up.

    Returns:
        The number of files.

    Raises:
        DataError: it cannot be had, is damaged or not safe, or does not fit on the disk.
    """
    file = root / _FOLDER / source.file
    fetch(source.url, file, digest=source.digest, copies=2 if source.is_archive else 1, patience=patience)
    try:
        if not source.is_archive:
            _require_text(file)
            return _put(file, root / source.file)
        files = unpack(file, root, source.suffixes)
    except DamagedError:
        # What was never whole is nothing to compare the next download with.
        record_of(file).unlink(missing_ok=True)
        raise
    _write_list(_list_of(root, source), files)
    if not keep_archive:
        file.unlink()
    return len(files)


def _tables(data: RetrievalDataModule) -> dict[str, pd.DataFrame]:
    if not data.root.is_dir():
        raise DataError(f"{data.root} does not exist", data.next_step)
    return data.tables()


def _count_videos(tables: Mapping[str, pd.DataFrame]) -> tuple[int, int]:
    paths = {path for table in tables.values() for path in table["path"]}
    return sum(Path(path).is_file() for path in paths), len(paths)


def _has_files(root: Path, source: Source) -> bool:
    folders = [root, *(folder for folder in root.iterdir() if folder.is_dir())] if root.is_dir() else []
    return all(any((folder / name).is_file() for folder in folders) for name in source.gives)


def _is_unpacked(root: Path, source: Source) -> bool:
    """Whether all files of an archive that was unpacked are there, so that fetching it again would bring nothing."""
    try:
        files = json.loads(_list_of(root, source).read_text())
        return bool(files) and all((root / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False  # no list, or a damaged one: fetched and compared again, which mends it


def _list_of(root: Path, source: Source) -> Path:
    return root / _FOLDER / f"{source.file}.unpacked.json"


def _write_list(place: Path, files: dict[str, int]) -> None:
    try:
        with replacing(place) as part:
            part.write_text(json.dumps(files))
    except OSError as error:
        raise unwritable(place, error) from error


def _require_text(file: Path) -> None:
    """
    Raises:
        DamagedError: a list or JSON file is not one, or is cut off.
    """
    try:
        text = file.read_text(encoding="utf-8")
        if not text.strip():
            raise ValueError("it is empty")
        if file.suffix == ".json":
            json.loads(text)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}", "look at the disk") from error
    except ValueError as error:
        raise DamagedError(f"{file} is damaged or cut off: {error}", f"delete {file} and fetch it again") from error


def _put(file: Path, place: Path) -> int:
    try:
        file.rename(place)
    except OSError as error:
        raise unwritable(place, error) from error
    return 1
