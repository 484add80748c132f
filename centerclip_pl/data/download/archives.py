"""Unpacking what was downloaded: nothing outside of the folder, nothing half, nothing over what is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from centerclip_pl.data.download.members import DamagedError, Member, members_of, require_safe
from centerclip_pl.data.download.partial import append, in_units, unwritable
from centerclip_pl.errors import DataError
from centerclip_pl.files import try_lock

_CHUNK = 1 << 20  # bytes


def unpack(archive: Path, folder: Path, suffixes: Sequence[str] = ()) -> dict[str, int]:
    """Unpack a zip, tar or tar.gz file into a folder.

    All members are looked at before anything is written, see
    :func:`~centerclip_pl.data.download.members.require_safe`. They are written into a hidden folder beside their place,
    and moved there once all of them are whole. Files that are there already are compared and left alone. What else an
    archive says of its files (owners, rights, times) is not taken over.

    Args:
        archive: the file.
        folder: where to; must exist.
        suffixes: unpack only files with these endings, in small letters; none: all. What is left out may also be a
            link. What macOS adds to archives (``__MACOSX``, ``._*``) is always left out.

    Returns:
        The size in bytes of each file, by its path relative to `folder`.

    Raises:
        DataError: the archive is damaged or cut off; it holds something unsafe, or nothing that is wanted; a file that
            is there is another one; the disk is full.
    """
    folder = folder.resolve()
    staging = folder / f".unpacking-{archive.name}"
    with _alone(folder), members_of(archive) as members:
        wanted = [member for member in members if member.kind != "folder" and _is_wanted(member, suffixes)]
        require_safe(archive, members, wanted)
        if not wanted:
            what = f" that ends in {', '.join(suffixes)}" if suffixes else ""
            raise DataError(f"{archive} holds no file{what}", f"delete {archive} and look where it came from")
        there = {member.path for member in wanted if _is_there(member, folder, archive)}
        _require_room(folder, sum(member.size for member in wanted if member.path not in there))
        try:
            _remove(staging)  # what an ended process left
            _make_folder(staging)
            _unpack(wanted, there, archive, staging, folder)
            _move(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return {str(member.path): member.size for member in wanted}


def _unpack(wanted: list[Member], there: set[PurePosixPath], archive: Path, staging: Path, folder: Path) -> None:
    from tqdm import tqdm

    total = sum(member.size for member in wanted)
    with tqdm(desc=f"unpacking {archive.name}", total=total, unit="B", unit_scale=True) as bar:
        for member in wanted:
            with member.open() as stream:
                if member.path in there:
                    _compare(stream, folder / member.path, archive, bar)
                else:
                    _write(stream, member, staging / member.path, archive, bar)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """
    Raises:
        DataError: another process unpacks into the same folder.
    """
    try:
        file = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        if not try_lock(file, folder):
            raise DataError(f"another process is unpacking into {folder}", "wait for it, or end it")
        yield
    finally:
        os.close(file)


def _is_wanted(member: Member, suffixes: Sequence[str]) -> bool:
    if "__MACOSX" in member.path.parts or member.path.name.startswith("._"):
        return False
    return not suffixes or member.name.lower().endswith(tuple(suffixes))


def _is_there(member: Member, folder: Path, archive: Path) -> bool:
    """
    Raises:
        DataError: something else is there, or a link on the way leads out of the folder.
    """
    place = folder / member.path
    if not place.parent.resolve().is_relative_to(folder):
        raise DataError(
            f"{archive}: {str(member.path)!r} would be unpacked outside of {folder}, to {place.parent.resolve()}",
            "a link in that folder leads there: replace it by a folder, or unpack the archive by hand",
        )
    if parent := next((parent for parent in place.parents if parent.exists() and not parent.is_dir()), None):
        raise _in_the_way(parent, archive)
    if not os.path.lexists(place):
        return False
    if place.is_symlink() or not place.is_file() or place.stat().st_size != member.size:
        raise _in_the_way(place, archive)
    return True


def _in_the_way(place: Path, archive: Path) -> DataError:
    return DataError(
        f"{place} is there, and is not what {archive.name} holds under that name. Nothing was unpacked",
        "move it away if it is not yours to keep, and run the same command again",
    )


def _write(stream: IO[bytes], member: Member, place: Path, archive: Path, bar: Any) -> None:
    _make_folder(place.parent)
    left = member.size
    try:
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise unwritable(place, error) from error
    try:
        # One byte more is asked for, to see that there is none.
        while left >= 0 and (data := stream.read(min(_CHUNK, left + 1))):
            left -= len(data)
            append(file, data[: len(data) + min(left, 0)], place)
            bar.update(len(data))
    finally:
        os.close(file)
    if left:
        raise DamagedError(
            f"{archive} is damaged: {member.name!r} has not the {member.size:,} bytes that are declared",
            f"delete {archive} and fetch it again",
        )


def _compare(stream: IO[bytes], place: Path, archive: Path, bar: Any) -> None:
    """
    Raises:
        DataError: the file that is there has other bytes.
    """
    try:
        file = place.open("rb")
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror}", "look at its permissions") from error
    with file:
        while data := stream.read(_CHUNK):
            if file.read(len(data)) != data:
                raise _in_the_way(place, archive)
            bar.update(len(data))
        if file.read(1):
            raise _in_the_way(place, archive)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _remove(folder: Path) -> None:
    try:
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DataError(
            f"{folder} has {in_units(free)} left on its disk; {in_units(size)} are needed to unpack",
            "make room, or name a folder on another disk: --data.root=FOLDER",
        )


def _move(source: Path, target: Path) -> None:
    """Move what is in `source` into `target`; a folder that is not there yet moves at once."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        try:
            if entry.is_dir() and place.is_dir():
                _move(entry, place)
            else:
                entry.rename(place)
        except OSError as error:
            raise unwritable(place, error) from error
