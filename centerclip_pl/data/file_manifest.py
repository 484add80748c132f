"""A table of all video files of a dataset, by which two copies of it can be compared.

One row a file: path (relative to the root, with ``/``), size in bytes, frames, frames a second, duration in seconds,
width and height in pixels, SHA-256 of the content, and what is wrong with it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from centerclip_pl.cores import usable_cores
from centerclip_pl.data.options import require_positive
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing
from centerclip_pl.video.manifest import VideoCheck, manifest_paths, write_beside

_log = logging.getLogger(__name__)
_NAME = "manifest.parquet"
_SAVE_EVERY = 60.0  # seconds
_NUMBERS = {
    "size": "int64",
    "num_frames": "int64",
    "fps": "float64",
    "duration": "float64",
    "width": "int64",
    "height": "int64",
}
COLUMNS = ("path", *_NUMBERS, "sha256", "problem")
"""Of a manifest; the one that is kept has ``mtime_ns`` too, in nanoseconds."""


class Hashes(NamedTuple):
    """Contents of files, by path as given."""

    sha256: dict[str, str]
    unreadable: dict[str, str]
    """Why a file could not be read from beginning to end."""


def known_hashes(files: Mapping[str, VideoCheck], root: str | Path) -> dict[str, str]:
    """The hashes of files that the kept manifest knows and that have not changed since, by path as given."""
    kept = _load_kept(root).dropna(subset=["sha256"])
    columns = (kept[name].tolist() for name in ("path", "size", "mtime_ns", "sha256"))
    known = {path: (size, mtime_ns, sha256) for path, size, mtime_ns, sha256 in zip(*columns, strict=True)}
    found: dict[str, str] = {}
    for path, check in files.items():
        size, mtime_ns, sha256 = known.get(relative_path(path, root), (-1, -1, ""))
        if sha256 and (size, mtime_ns) == (check.size, check.mtime_ns):
            found[path] = sha256
    return found


def hash_files(
    files: Mapping[str, VideoCheck], root: str | Path, *, jobs: int | None = None, progress: bool = True
) -> Hashes:
    """SHA-256 of each file, read from beginning to end, except those that the kept manifest knows unchanged.

    What is known when the user interrupts is kept.

    Args:
        files: verdicts by path; missing files are passed over.
        root: the folder of the dataset, beside which the manifest is kept.
        jobs: files read at a time; None: as many as there are processors, at most 16.
        progress: whether to show a bar (on a terminal only).

    Raises:
        ConfigError: ``jobs`` is not positive.
    """
    if jobs is not None:
        require_positive(jobs=jobs)
    hashes = Hashes(known_hashes(files, root), {})
    todo = [path for path, check in files.items() if check.size >= 0 and path not in hashes.sha256]
    if not todo:
        return hashes
    saved = time.monotonic()
    with ThreadPoolExecutor(jobs or min(usable_cores(), 16)) as pool:
        waiting = {pool.submit(_sha256, path): path for path in todo}
        bar = tqdm(as_completed(waiting), total=len(todo), desc="hashing videos", unit="file", disable=_quiet(progress))
        try:
            for future in bar:
                path = waiting[future]
                try:
                    hashes.sha256[path] = future.result()
                except OSError as error:
                    hashes.unreadable[path] = error.strerror or str(error)
                if time.monotonic() - saved > _SAVE_EVERY:
                    keep(files, hashes.sha256, root)
                    saved = time.monotonic()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            keep(files, hashes.sha256, root)
    return hashes


def manifest_of(files: Mapping[str, VideoCheck], sha256: Mapping[str, str], root: str | Path) -> pd.DataFrame:
    """The table of ``COLUMNS`` and ``mtime_ns``: one row for each file that is there, in the order of the paths.

    ``sha256`` is empty where it is not known. Files outside of ``root`` have their absolute path.
    """
    rows = [
        {**check._asdict(), "path": relative_path(path, root), "sha256": sha256.get(path), "problem": check.problem}
        for path, check in files.items()
        if check.size >= 0
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "mtime_ns"])
    table = table.astype({**_NUMBERS, "mtime_ns": "int64", "path": "string", "sha256": "string", "problem": "string"})
    return table.drop_duplicates("path").sort_values("path", ignore_index=True)


def keep(files: Mapping[str, VideoCheck], sha256: Mapping[str, str], root: str | Path) -> Path | None:
    """Write the manifest of these files beside the data or into the user's cache.

    What is kept there of other files stays, as experiments may use parts of a dataset.

    Returns:
        Where it lies; None where neither place can be written.
    """
    table, others = manifest_of(files, sha256, root), _load_kept(root)
    others = others[~others["path"].isin([relative_path(path, root) for path in files])]
    merged = (pd.concat([table, others]) if len(others) else table).sort_values("path", ignore_index=True)
    return write_beside(root, _NAME, lambda part: merged.to_parquet(part, index=False))


def write_manifest(table: pd.DataFrame, file: str | Path) -> None:
    """Write a manifest for others, without the times of change, which are of this machine alone.

    Raises:
        ConfigError: the name ends neither in .csv nor in .parquet.
        DataError: the file cannot be written; its folder must exist.
    """
    file = Path(file)
    require_table_name(file)
    table = table[list(COLUMNS)]
    try:
        with replacing(file) as part:
            if file.suffix.lower() == ".csv":
                table.to_csv(part, index=False)
            else:
                table.to_parquet(part, index=False)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror or error}", "name another file") from error


def read_manifest(file: str | Path) -> pd.DataFrame:
    """A manifest that :func:`write_manifest` wrote, or the kept one of a dataset.

    Raises:
        ConfigError: the name ends neither in .csv nor in .parquet.
        DataError: the file is absent, cut off, or no manifest.
    """
    file = Path(file)
    require_table_name(file)
    written = "it must be what `centerclip data verify DATASET --manifest=FILE.csv` (or .parquet) wrote"
    try:
        if file.suffix.lower() == ".csv":
            table = pd.read_csv(file, dtype="string", keep_default_na=False, na_values=[""])
        else:
            table = pd.read_parquet(file)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", written) from None
    except Exception as error:  # pandas and pyarrow raise many
        raise DataError(f"{file} cannot be read: {str(error).splitlines()[0]}", written) from error
    absent = [name for name in ("path", *_NUMBERS, "sha256") if name not in table.columns]
    if absent:
        raise DataError(f"{file} is no manifest: it has no column {', '.join(absent)}", written)
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in _NUMBERS}
    numbers = {name: column.where(column.abs() < 2**53) for name, column in numbers.items()}  # infinity is no size
    hashes = table["sha256"].astype("string")
    whole = hashes.isna() | hashes.str.fullmatch(r"[0-9a-f]{64}").fillna(False)
    bad = table["path"].isna() | pd.DataFrame(numbers).isna().any(axis=1) | ~whole
    if bad.any():
        row = int(bad.to_numpy().argmax()) + 1
        raise DataError(f"{file}, row {row} of {len(table)}: is not complete; the file may be cut off", written)
    table = table.assign(**numbers).astype({**_NUMBERS, "path": "string", "sha256": "string"})
    if table["path"].duplicated().any():
        raise DataError(f"{file} has {table.loc[table['path'].duplicated(), 'path'].iloc[0]} twice", written)
    return table


def require_table_name(file: str | Path) -> None:
    """
    Raises:
        ConfigError: the name ends neither in .csv nor in .parquet.
    """
    if Path(file).suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{file}: the ending says in which form", "use .csv or .parquet")


def relative_path(path: str | Path, root: str | Path) -> str:
    """The path below the root, with ``/``; the absolute one where it is outside."""
    absolute, base = Path(path).absolute(), Path(root).absolute()  # links are part of how a dataset is laid out
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quiet(progress: bool) -> bool | None:
    return None if progress else True  # None: on a terminal only


def _load_kept(root: str | Path) -> pd.DataFrame:
    wanted = [*COLUMNS, "mtime_ns"]
    for file in manifest_paths(root, _NAME):
        if not file.is_file():
            continue
        try:
            return pd.read_parquet(file)[wanted]
        except Exception as error:  # what is kept can be found out again
            _log.warning("%s cannot be read and is made anew (%s)", file, error)
    return pd.DataFrame(columns=wanted)
