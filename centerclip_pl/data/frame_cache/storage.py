"""Where a frame cache lies: a folder, or an object store behind an address such as ``s3://bucket/cache``.

Object stores are reached through fsspec. Connections and open files are of one process: neither survives a fork.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

from centerclip_pl.data.frame_cache.layout import ANEW, REPAIR
from centerclip_pl.errors import ConfigError, DataError

_OPEN_FILES = 64  # of one process; many systems allow a process 1024 in all


class AbsentFileError(DataError):
    """A file that the cache does not have; where this is not raised, it may have it."""


class Storage(Protocol):
    """Reads the files of a cache."""

    def read(self, name: str) -> bytes:
        """All of a small file.

        Raises:
            DataError: it cannot be read.
        """

    def ranges(self, name: str, spans: list[tuple[int, int]]) -> list[bytes]:
        """Bytes ``[start, end)`` of a file for each span; shorter where the file ends before.

        Raises:
            DataError: it cannot be read.
        """

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where asking takes long (object stores).

        Raises:
            DataError: it is not there.
        """


def open_storage(address: str) -> Storage:
    """The folder or object store of this address; nothing is read yet.

    Raises:
        ConfigError: fsspec does not know such addresses, or lacks a package for them.
    """
    scheme, separator, rest = address.partition("://")
    if not separator or scheme in ("file", "local"):
        return Folder(Path(rest if separator else address))
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address, skip_instance_cache=True)
    except (ImportError, ValueError) as error:  # "Install s3fs to access S3"; "Protocol not known"
        raise ConfigError(
            f"{address} cannot be opened: {error}",
            "name a folder, or install what reads such addresses, e.g. pip install s3fs (s3://) or gcsfs (gs://)",
        ) from error
    return ObjectStore(address, system, path)


class Folder:
    """A cache on this machine, or on a file system that many share.

    Reads with ``pread``: a mapped file that someone cuts off ends the process with a bus error, and on network file
    systems mapped pages come one by one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: OrderedDict[str, int] = OrderedDict()  # descriptors, the one that was used last at the end

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)

    def read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise _unreadable(self._folder / name, error) from error

    def ranges(self, name: str, spans: list[tuple[int, int]]) -> list[bytes]:
        try:
            file = self._descriptor(name)
            return [os.pread(file, end - start, start) for start, end in spans]
        except OSError as error:
            raise _unreadable(self._folder / name, error) from error

    def size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except OSError as error:
            raise _unreadable(self._folder / name, error) from error

    def _descriptor(self, name: str) -> int:
        if name not in self._files:
            self._files[name] = os.open(self._folder / name, os.O_RDONLY)
            if len(self._files) > _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(name)
        return self._files[name]


class ObjectStore:
    """A cache behind fsspec. The ranges of one call are fetched at the same time where the store can do that."""

    def __init__(self, address: str, system: Any, path: str) -> None:
        self._address = address.rstrip("/")
        self._system = system
        self._path = path.rstrip("/")

    def read(self, name: str) -> bytes:
        return bytes(self._fetch(name, lambda path: self._system.cat_file(path)))

    def ranges(self, name: str, spans: list[tuple[int, int]]) -> list[bytes]:
        starts, ends = [start for start, _ in spans], [end for _, end in spans]

        def fetch(path: str) -> Any:
            return self._system.cat_ranges([path] * len(spans), starts, ends, on_error="raise")

        return list(self._fetch(name, fetch))

    def size(self, name: str) -> None:
        return None

    def _fetch(self, name: str, fetch: Any) -> Any:
        try:
            return fetch(f"{self._path}/{name}")
        except Exception as error:  # every store has exceptions of its own
            raise _unreadable(f"{self._address}/{name}", error) from error


def _unreadable(file: object, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        shard = str(file).endswith(".arrow")
        return AbsentFileError(f"{file} does not exist", REPAIR if shard else ANEW)
    kind = type(error).__name__
    said = f"{kind}: {str(error)[:300]}"
    # Each store has its own exceptions for this: ClientConnectorError, EndpointConnectionError, ConnectTimeoutError.
    if isinstance(error, ConnectionError | TimeoutError) or "onnect" in kind or "Timeout" in kind:
        return DataError(f"{file} cannot be reached: {said}", "see whether the address is right and the network is up")
    return DataError(f"{file} cannot be read: {said}", "see whether you may read it")
