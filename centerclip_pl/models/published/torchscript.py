"""The weights of a TorchScript archive, as OpenAI published CLIP, without ``torch.jit`` and without its code.

Such an archive is a zip file: ``NAME/data.pkl`` is a pickle of the module as a tree of objects, ``NAME/data/0`` and so
on are the tensors' bytes, and ``NAME/code/`` is the program, which is not looked at. The pickle is read by an unpickler
that looks nothing up: what it may ask for is defined here, and anything else is refused by name.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from centerclip_pl.errors import CheckpointError

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
# Operations that set memory aside before it is read, or hash what they are given: no archive of weights has them.
_REFUSED = (
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
)
_LOADS: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch
_LISTS = {"build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag"}


class _Inert:
    """Stands for an object of the archive's own classes: it holds attributes and can do nothing."""


class _RefusedError(Exception):
    """The pickle asks for something that it has no business with."""


# Objects without a `__dict__` instead of functions: a pickle can set attributes of what it gets hold of.
class _RebuildTensor:
    __slots__ = ()

    def __call__(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset)  # torch refuses what lies outside of the storage


class _First:
    """What a parameter, or a list of a declared type, is made of."""

    __slots__ = ()

    def __call__(self, first: Any, *_: Any) -> Any:
        return first


class _Unpickler(pickle._Unpickler):
    """The unpickler that is written in Python: the one in C sets memory aside as a hostile file tells it to.

    OpenAI's files take a second.
    """

    stack: list[Any]

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        content = _read(archive, f"{root}data.pkl")
        super().__init__(io.BytesIO(content))
        self.size = len(content)
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}
        self._classes: dict[str, type] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return self._classes.setdefault(f"{module}.{name}", type("Inert", (_Inert,), {}))
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _RebuildTensor()
        if (module == "torch._utils" and name == "_rebuild_parameter") or (
            module == "torch.jit._pickle" and name in _LISTS
        ):
            return _First()
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any, /) -> Tensor:
        kind, dtype, key, _location, _numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a reference to something else than a storage")
        if key not in self._storages:
            content = bytearray(_read(self._archive, f"{self._root}data/{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self._storages[key]

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("an operation that archives of weights do not need")

    def _set_one(self) -> None:
        _require_plain(self.stack[-2:-1])
        _LOADS[pickle.SETITEM[0]](self)

    def _set_some(self) -> None:
        _require_plain(self.stack[::2])
        _LOADS[pickle.SETITEMS[0]](self)

    def _make_dict(self) -> None:
        _require_plain(self.stack[::2])
        _LOADS[pickle.DICT[0]](self)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_LOADS,
        **dict.fromkeys((code[0] for code in _REFUSED), _refuse),
        pickle.SETITEM[0]: _set_one,
        pickle.SETITEMS[0]: _set_some,
        pickle.DICT[0]: _make_dict,
    }


def _require_plain(keys: list[Any]) -> None:
    """The hash of tuples in tuples may take for ever."""
    if not all(isinstance(key, str | bytes | int | float) for key in keys):
        raise pickle.UnpicklingError("a key that is neither a word nor a number")


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    # torch never compresses these; a compressed one could unpack to any size.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{name} is compressed")
    return archive.read(name)


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a zip file is a TorchScript archive; what ``torch.save`` writes has no constants of its own."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """All tensors of a TorchScript archive, named by the attributes that lead to them, joined with dots.

    These are parameters, buffers, and also tensors that are plain attributes, which the file does not tell apart.

    Raises:
        CheckpointError: if the file is cut off or damaged, or asks for code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            unpickler = _Unpickler(archive, root)
            return dict(_tensors(unpickler.load(), "", set(), [unpickler.size]))
    except _RefusedError as error:
        raise CheckpointError(
            f"checkpoint {path}: its pickle asks for {error}, which a TorchScript archive of weights does not need: "
            "not loaded",
            "use the file as OpenAI published it",
        ) from error
    except Exception as error:  # zipfile, pickle and torch raise many classes for damaged bytes
        raise CheckpointError(
            f"checkpoint {path}: cannot be read ({type(error).__name__}): the file is damaged or cut off",
            "download or copy it again",
        ) from error


def _tensors(owner: Any, name: str, above: set[int], left: list[int]) -> Iterator[tuple[str, Tensor]]:
    """
    Args:
        owner: an object of the archive.
        name: what leads to it.
        above: the objects that it is a part of.
        left: how many attributes may still be looked at. An object that is meant in many places is found in each, and
            objects of such objects would unfold without end: a file has more bytes than attributes.
    """
    if not isinstance(owner, _Inert) or id(owner) in above:  # an object may refer to one that it is a part of
        return
    for attribute, value in vars(owner).items():
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("it unfolds to far more than its size")
        if isinstance(value, Tensor):
            yield f"{name}{attribute}", value
        else:
            yield from _tensors(value, f"{name}{attribute}.", above | {id(owner)}, left)
