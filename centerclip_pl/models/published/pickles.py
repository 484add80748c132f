"""Files that ``torch.save`` wrote, read without running anything that is in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from centerclip_pl.errors import CheckpointError


def load_plain(path: Path, *, whole: str, trusted: str) -> Any:
    """The content of a file of ``torch.save``, old or new format: tensors, numbers, words, lists and dicts.

    Args:
        path: the file.
        whole: what to do if the file is damaged.
        trusted: what to do if it holds anything else than such data.

    Returns:
        The content, with tensors on the CPU.

    Raises:
        CheckpointError: if the file is cut off or damaged, is packed, or asks for a function or class, which is not
            looked up.
    """
    try:
        _refuse_packed(path, whole)
        with warnings.catch_warnings():  # it asks for an issue where another program's pickle is of a newer protocol
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None or _ends_within(path, named[1].rpartition(".")[2]):
            raise CheckpointError(f"checkpoint {path}: cannot be read: the file is damaged", whole) from error
        raise CheckpointError(
            f"checkpoint {path}: holds more than tensors and plain data ({named[1]}), which could run code: not loaded",
            trusted,
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # torch raises RuntimeError, EOFError, OSError and others for damaged archives
        raise CheckpointError(
            f"checkpoint {path}: cannot be read ({type(error).__name__}): the file is damaged or cut off", whole
        ) from error


def _refuse_packed(path: Path, whole: str) -> None:
    """Refuses an archive whose entries take more room than the file: torch packs none, and would unpack any size."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # by which torch tells its formats apart
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = next((entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None or sum(entry.file_size for entry in entries) > path.stat().st_size:
        what = "entries that overlap" if packed is None else f"a compressed entry, {packed.filename[:60]!r}"
        raise CheckpointError(f"checkpoint {path}: has {what}, which torch never writes: not unpacked", whole)


def _ends_within(path: Path, name: str) -> bool:
    """Whether a file that was cut off ends in this name, of which torch has dropped the last letter for a line end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 512))
        return file.read()[:-1].endswith(name.encode())
