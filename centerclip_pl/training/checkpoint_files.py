"""Checkpoint files that appear whole or not at all, and that are known to be whole before they are used."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from typing_extensions import override

from centerclip_pl.errors import CheckpointError
from centerclip_pl.files import MEBIBYTE, replacing

LAST_NAME = "last.ckpt"
PREVIOUS_NAME = "previous.ckpt"
DAMAGED_NAME = "damaged.ckpt"


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint, makes sure that it is on the disk, and then puts it in the old one's place.

    So whenever a process or a machine stops, the name stands for a whole checkpoint, the old or the new. And nothing is
    held in memory twice, as Lightning's own writing does.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: what ``torch.save`` takes.
            path: the file; an address such as s3://... is left to Lightning.
            storage_options: not used, as with Lightning.

        Raises:
            CheckpointError: it cannot be written; the old file, if there is one, is still there.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                with part.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch's writer calls a full disk a RuntimeError
            cause = _os_error(error)
            if cause is None:
                raise
            raise CheckpointError(
                f"checkpoint {path}: cannot be written: {cause.strerror}{_room(path.parent, checkpoint)}",
                "make room; the same command then goes on from the last checkpoint that was written",
            ) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """What the system said, wherever torch has put it."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error
        error = error.__cause__ or error.__context__
    return None


def _room(folder: Path, checkpoint: Any) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f" (it needs about {size_of(checkpoint) / MEBIBYTE:.1f} MiB, {free / MEBIBYTE:.1f} MiB are free there)"


def size_of(checkpoint: Any) -> int:
    """Bytes of all tensors in a checkpoint, each once."""
    seen: dict[int, int] = {}

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, dict):
            for each in value.values():
                add(each)
        elif isinstance(value, list | tuple):
            for each in value:
                add(each)

    add(checkpoint)
    return sum(seen.values())


def _sync_folder(folder: Path) -> None:
    """The new name itself is on the disk only now. Not every file system lets a folder be opened for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def keep_previous(last: Path) -> None:
    """Lets ``previous.ckpt`` stand for what ``last.ckpt`` is now, without a moment in which neither is there."""
    if not last.is_file():
        return
    previous = last.with_name(PREVIOUS_NAME)
    try:
        with replacing(previous) as part:
            part.unlink(missing_ok=True)
            part.hardlink_to(last)
            if previous.is_file() and previous.samefile(last):  # which os.replace would leave, and the link too
                previous.unlink()
    except OSError:  # a file system without links: then the name moves, and for a moment there is no last one
        os.replace(last, previous)


def remove_parts(folder: Path) -> None:
    """Removes what killed processes have left half written. To be called where no other process writes there."""
    for part in folder.glob(".*.ckpt.*.part"):
        part.unlink(missing_ok=True)


def check_whole(path: Path) -> None:
    """Reads a checkpoint of ``torch.save`` and compares each of its parts with its checksum, which torch does not.

    Raises:
        CheckpointError: the file is cut off, or some bytes are not those that were written.
    """
    another = "use another checkpoint of the run"
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path}: cannot be read: the file is damaged or cut off ({error})", another
        ) from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {path}: cannot be read: {error.strerror or error}", another) from error
    if bad is not None:
        raise CheckpointError(
            f"checkpoint {path}: cannot be read: the file is damaged, the checksum of {bad} does not fit", another
        )


def put_previous_in_place(last: Path) -> None:
    """Sets a damaged ``last.ckpt`` aside, for otherwise it would become the previous one when the next is written."""
    if last.is_file():
        os.replace(last, last.with_name(DAMAGED_NAME))
        said = f"note: {PREVIOUS_NAME} takes the place of {last}, which is kept as {DAMAGED_NAME}"
        print(said, file=sys.stderr, flush=True)
    previous = last.with_name(PREVIOUS_NAME)
    try:
        last.hardlink_to(previous)
    except OSError:
        shutil.copyfile(previous, last)
