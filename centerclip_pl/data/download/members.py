"""What is in an archive: its members, refused as a whole where one of them is not what a dataset needs."""

from __future__ import annotations

import gzip
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from centerclip_pl.data.download.partial import in_units
from centerclip_pl.errors import DataError

MAX_MEMBERS = 1_000_000
MAX_RATIO = 200
"""How many times the archive's size its members may have together. Annotations shrink to a tenth, videos not at all;
a zip bomb's ratio begins at a thousand."""
_ALLOWANCE = 1 << 20  # bytes that small archives may hold beyond that

_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error),
    *(EOFError, UnicodeDecodeError, NotImplementedError),
)
_BLOCK = 512  # bytes; the unit of tar files, which end with two blocks of zeros


class DamagedError(DataError):
    """A file that is not what it was when its owner published it."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    """As it stands in the archive."""
    size: int
    """Bytes, as the archive declares."""
    kind: str
    """``"file"``, ``"folder"``, or what else it is."""
    open: Callable[[], IO[bytes]]

    @property
    def path(self) -> PurePosixPath:
        """The name without empty parts and dots."""
        return PurePosixPath(self.name)


@contextmanager
def members_of(archive: Path) -> Iterator[list[Member]]:
    """The members of a zip, tar or tar.gz file, chosen by its ending. Damage found within the block is reported.

    Raises:
        DataError: the archive is damaged or cut off, or holds more than such an archive can.
    """
    with _reporting_damage(archive):
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                yield _limited(archive, (_of_zip(file, info) for info in file.infolist()))
        elif archive.name.endswith((".tar", ".tar.gz", ".tgz")):
            mode = "r:" if archive.name.endswith(".tar") else "r:gz"
            with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
                members = _limited(archive, (_of_tar(tar, info) for info in tar))
                _require_end(tar)
                yield members
        else:
            raise DataError(f"{archive} is neither .zip nor .tar nor .tar.gz", "unpack it by hand")


def require_safe(archive: Path, members: list[Member], wanted: list[Member]) -> None:
    """
    Args:
        archive: for messages.
        members: all there are; their names are looked at, wanted or not.
        wanted: those that are to be unpacked.

    Raises:
        DataError: a name leads out of the folder, cannot be a file's everywhere, or comes twice (or differs from
            another by case alone); or one of the wanted is a link, a device or the like. The text names the member.
    """
    for member in members:
        if problem := _problem_of_name(member.name):
            raise _refused(archive, member, problem)
    for member in wanted:
        if member.kind != "file":
            raise _refused(archive, member, f"it is a {member.kind}")
    _require_apart(archive, wanted)


def _problem_of_name(name: str) -> str | None:
    if not name or not PurePosixPath(name).parts:
        return "its name is empty" if not name else None  # "./" is the folder itself
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "its name holds control characters"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its name is an absolute path"
    if "\\" in name:
        return "its name holds a backslash, which parts folders elsewhere"
    if ".." in PurePosixPath(name).parts:
        return "its name leads out of the folder"
    if any(len(part.encode()) > 255 for part in PurePosixPath(name).parts):
        return "its name is too long for a file"
    return None


def _require_apart(archive: Path, wanted: list[Member]) -> None:
    """No two paths are the same where case, or the ways to write an accent, do not count."""
    spelt: dict[str, tuple[str, bool]] = {}
    for member in wanted:
        for path in (member.path, *member.path.parents[:-1]):
            is_file = path == member.path
            key = unicodedata.normalize("NFC", str(path)).casefold()
            other, other_is_file = spelt.setdefault(key, (str(path), is_file))
            if other != str(path):
                raise _refused(archive, member, f"where case does not count, its name is the same as {other!r}")
            if other_is_file != is_file:
                raise _refused(archive, member, f"{other!r} is both a file and a folder")
    seen: set[PurePosixPath] = set()
    for member in wanted:
        if member.path in seen:
            raise _refused(archive, member, "it comes twice")
        seen.add(member.path)


def _refused(archive: Path, member: Member, problem: str) -> DataError:
    return DataError(
        f"{archive}: {member.name[:200]!r} is not unpacked: {problem}. Nothing was unpacked",
        "this is not the archive that the dataset's owner publishes, or not a safe one: delete it and look where it "
        "came from",
    )


def _of_zip(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = stat.S_IFMT(info.external_attr >> 16)
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    kind = "folder" if info.is_dir() and mode in (0, stat.S_IFDIR) else kinds.get(mode, "device")
    if info.flag_bits & 0x1:
        kind = "file under a password"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        kind = f"file of compression method {info.compress_type}"
    # zipfile cuts names at NUL characters; the whole name is looked at.
    return Member(info.orig_filename, info.file_size, kind, lambda: file.open(info))


def _of_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.issym() or info.islnk():
        kind = "link"
    elif info.isdir():
        kind = "folder"
    elif info.isreg() and not info.issparse():
        kind = "file"
    else:
        kind = "file with holes" if info.issparse() else "device"

    def opened() -> IO[bytes]:
        if hasattr(tarfile, "data_filter"):  # Python's own check as well, from 3.11.4 on; it raises FilterError
            tarfile.data_filter(info, "/folder")
        stream = tar.extractfile(info)
        assert stream is not None
        return stream

    return Member(info.name, info.size, kind, opened)


def _limited(archive: Path, members: Iterator[Member]) -> list[Member]:
    """The members, read only as long as they may be an archive's of that size: a bomb is not read to its end."""
    most = MAX_RATIO * archive.stat().st_size + _ALLOWANCE
    found, total = [], 0
    for member in members:
        found.append(member)
        total += member.size
        if member.size < 0 or total > most or len(found) > MAX_MEMBERS:
            raise _refused(
                archive,
                member,
                f"up to here there are {len(found):,} members of {in_units(total)} in an archive of "
                f"{in_units(archive.stat().st_size)}",
            )
    return found


def _require_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a file that is cut off between two members, or a damaged header, for the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(_BLOCK)
    if len(block) < _BLOCK or any(block):
        raise tarfile.ReadError("it ends without a mark of the end")
    tar.fileobj.read(_ALLOWANCE)  # padding; gzip compares its checksum when its end is read
    if tar.fileobj.read(1):
        raise tarfile.ReadError("it goes on behind its end")


@contextmanager
def _reporting_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        raise DamagedError(
            f"{archive} is damaged or cut off: {str(error) or type(error).__name__}",
            f"delete {archive} and fetch it again",
        ) from error
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror or error}", "look at the disk") from error
