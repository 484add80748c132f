"""Files of weights, whatever wrote them, to a flat dict of tensors; what kind a file is, its content says."""

from __future__ import annotations

import reprlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from centerclip_pl.errors import CheckpointError
from centerclip_pl.models.published.pickles import load_plain
from centerclip_pl.models.published.torchscript import is_torchscript, read_torchscript

_AGAIN = "download or copy it again"
_KNOWN = (
    "give a file of OpenAI CLIP (.pt), CLIP4Clip (pytorch_model.bin.N), CenterCLIP (ckpt.best.pth.tar), Hugging Face "
    "CLIP (a folder, model.safetensors or pytorch_model.bin) or of this package (.ckpt)"
)
_FOLDER = ("model.safetensors", "pytorch_model.bin")
# Numbers that OpenAI's modules carry beside their weights; the shapes say the same.
SCALARS = ("input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class Archive:
    """What a file of weights holds.

    Attributes:
        path: the file.
        kind: how it is stored: ``"TorchScript"``, ``"safetensors"`` or ``"torch.save"``.
        tensors: the weights under the file's own names, on the CPU, as they are stored.
        around: the entries beside the weights, where those are the entry ``state_dict`` of a larger dict; else None.
    """

    path: Path
    kind: str
    tensors: dict[str, Tensor]
    around: dict[str, Any] | None = None


def read_archive(path: str | Path) -> Archive:
    """Reads a file of weights, or a folder that holds ``model.safetensors`` or ``pytorch_model.bin``.

    Nothing that is in the file is run.

    Raises:
        CheckpointError: if there is no such file, it is none of weights, is cut off or damaged, holds code, or holds
            something else than tensors where weights belong.
    """
    path = _file(Path(path))
    kind = _kind(path)
    if kind == "TorchScript":
        return Archive(path, kind, read_torchscript(path))
    if kind == "safetensors":
        try:
            return Archive(path, kind, safetensors.torch.load_file(path))
        except Exception as error:  # SafetensorError, OSError, and others for dtypes that torch does not have
            raise CheckpointError(
                f"checkpoint {path}: cannot be read ({type(error).__name__}): the file is damaged or cut off", _AGAIN
            ) from error
    content = load_plain(path, whole=_AGAIN, trusted=_KNOWN)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"checkpoint {path}: holds a {type(content).__name__}, not a dict of weights", _KNOWN)
    if isinstance(content.get("state_dict"), Mapping):
        around = {str(name): value for name, value in content.items() if name != "state_dict"}
        return Archive(path, kind, _flat(path, content["state_dict"]), around)
    return Archive(path, kind, _flat(path, content))


def _file(path: Path) -> Path:
    if path.is_dir():
        for name in _FOLDER:
            if (path / name).is_file():
                return path / name
        if any(path.glob("*.index.json")):
            raise CheckpointError(
                f"checkpoint {path}: its weights are spread over several files, which the import does not read",
                f"use the folder as it is: --model.backbone={path}",
            )
        raise CheckpointError(f"checkpoint {path}: the folder holds neither {' nor '.join(_FOLDER)}", _KNOWN)
    if not path.exists():
        raise CheckpointError(f"checkpoint {path}: there is no such file", f"looked in {Path.cwd()}")
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: is no regular file", _KNOWN)
    return path


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path}: cannot be opened: {error.strerror}") from error
    if not head:
        raise CheckpointError(f"checkpoint {path}: is empty", _AGAIN)
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                if is_torchscript(archive):
                    return "TorchScript"
                if any(name.endswith("/data.pkl") for name in archive.namelist()):
                    return "torch.save"
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise CheckpointError(
                f"checkpoint {path}: cannot be read: the file is damaged or cut off", _AGAIN
            ) from error
        raise CheckpointError(f"checkpoint {path}: is a zip file without weights (it has no data.pkl)", _KNOWN)
    if head[0] == 0x80:  # a pickle: torch.save's format of before 2020
        return "torch.save"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:  # safetensors' own limit
        return "safetensors"
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"checkpoint {path}: is a pointer of Git LFS, not the file itself", "run: git lfs pull")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"checkpoint {path}: is a web page, not a file of weights", _AGAIN)
    raise CheckpointError(f"checkpoint {path}: is no file of weights (it begins with {head[:12]!r})", _KNOWN)


def _flat(path: Path, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    tensors = {}
    for name, value in content.items():
        if not isinstance(name, str):
            raise CheckpointError(
                f"checkpoint {path}: holds an entry {reprlib.repr(name)}, whose name is no word", _KNOWN
            )
        if isinstance(value, Tensor):
            tensors[name] = value
        elif name.rpartition(".")[2] not in SCALARS:
            raise CheckpointError(
                f"checkpoint {path}: its entry {name!r} is a {type(value).__name__}, not a tensor", _KNOWN
            )
    return tensors


def usable(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A weight of a file in float32.

    Args:
        path: the file, for messages and for its size.
        name: the weight's own name, for messages.
        tensor: as the file has it.

    Raises:
        CheckpointError: if it is no floating-point tensor with a value for each element, larger than the file, or if a
            value is NaN or infinite.
    """
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.dtype.is_floating_point:
        what = f"{str(tensor.dtype).removeprefix('torch.')}, {str(tensor.layout).removeprefix('torch.')}"
        raise CheckpointError(f"checkpoint {path}: {name} is no plain floating-point tensor ({what})", _KNOWN)
    if tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise CheckpointError(f"checkpoint {path}: {name} claims to be {list(tensor.shape)}, more than the file holds")
    tensor = tensor.detach().float()
    if not torch.isfinite(tensor).all():
        what = "NaN" if torch.isnan(tensor).any() else "infinity"
        raise CheckpointError(
            f"checkpoint {path}: {name} has values that are {what}", "use a file from before the training diverged"
        )
    return tensor
