"""A pickled dict of captions, read without running anything that is in the file."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from centerclip_pl.data.annotations import read_bytes
from centerclip_pl.errors import DataError

_SHAPE = "a pickled dict with a list of captions for each id, each caption a list of words"
_SHOWN = 60  # characters of the file in a message
_REFUSED = (  # operations that captions never need
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.LONG4, pickle.BUILD, pickle.NEWOBJ, pickle.NEWOBJ_EX),
)
_LOADS: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch
_GROWTH = 64  # characters of captions that a byte of the file may stand for; published files have about one


def read_pickled_captions(file: Path, next_step: str) -> dict[str, list[str]]:
    """The captions in a file like MSVD's ``raw-captions.pkl``: id -> list of captions, each a list of words.

    Pickles are programs. This reads those that hold dicts, lists, tuples and texts, and nothing else: a file that names
    a function or a class is refused before it is looked up, and one that unfolds to far more than its size before it
    takes that memory. Texts may be Python 3's, Python 2's of both kinds, or bytes; bytes are UTF-8, or else Latin-1.

    Args:
        file: the file, of any protocol.
        next_step: what to put where, and from whom to get it.

    Returns:
        The captions of each id, their words joined by a space, as many and in the order as published.

    Raises:
        DataError: the file cannot be read, is damaged or cut off, holds code, or something of another shape.
    """
    content = read_bytes(file, next_step)
    stream = io.BytesIO(content)
    try:
        value = _Plain(stream, len(content), file, next_step).load()
    except DataError:
        raise
    except Exception as error:  # damaged pickles raise nearly everything: EOFError, KeyError, MemoryError ...
        reason = f"{type(error).__name__}: {str(error)[:200]}".removesuffix(": ")
        raise DataError(f"{file} is not {_SHAPE}, or is damaged or cut off ({reason})", next_step) from error
    if stream.tell() != len(content):
        raise DataError(f"{file}: more follows behind the pickled dict", next_step)
    try:
        return _captions(value, _GROWTH * len(content))
    except TypeError as error:
        raise DataError(f"{file} is not {_SHAPE}: {error}", next_step) from error


class _Encode:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes in the old protocols.

    Without a ``__dict__``, so that a pickle cannot change it.
    """

    __slots__ = ("_left",)

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, text: str, encoding: str) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise TypeError("bytes are written in an unknown way")
        self._left -= len(text)
        if self._left < 0:  # each text is written once
            raise ValueError("bytes take more room than the file")
        return text.encode("latin-1")


class _Plain(pickle._Unpickler):
    """Makes dicts, lists, tuples, texts and numbers; looks up no name.

    The unpickler that is written in Python: the one in C sets memory aside as a damaged or hostile file tells it to,
    64 GiB for six bytes. MSVD's captions take half a second.
    """

    stack: list[Any]

    def __init__(self, stream: io.BytesIO, size: int, file: Path, next_step: str) -> None:
        super().__init__(stream, encoding="bytes")
        self._encode = _Encode(size)
        self._file = file
        self._next_step = next_step

    def find_class(self, module: Any, name: Any) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        raise DataError(
            f"{self._file} holds more than captions: it names {_text(module)[:_SHOWN]}.{_text(name)[:_SHOWN]}, which "
            "could run code; nothing of it was loaded",
            f"do not trust this file; get the published one. {self._next_step}",
        )

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it holds something other than dicts, lists, tuples, texts and numbers")

    def _set_one(self) -> None:
        _require_texts(self.stack[-2:-1])
        _LOADS[pickle.SETITEM[0]](self)

    def _set_some(self) -> None:
        _require_texts(self.stack[::2])
        _LOADS[pickle.SETITEMS[0]](self)

    def _make_dict(self) -> None:
        _require_texts(self.stack[::2])
        _LOADS[pickle.DICT[0]](self)

    # A bytearray's memory is set aside before it is read, and sets hash what they are given.
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_LOADS,
        **dict.fromkeys((code[0] for code in _REFUSED), _refuse),
        pickle.SETITEM[0]: _set_one,
        pickle.SETITEMS[0]: _set_some,
        pickle.DICT[0]: _make_dict,
    }


def _require_texts(keys: list[Any]) -> None:
    """Hashes of other keys may take for ever or end the process (tuples in tuples), or be all the same (numbers)."""
    if not all(isinstance(key, str | bytes) for key in keys):
        raise pickle.UnpicklingError("an id is not a text")


def _captions(value: Any, most: int) -> dict[str, list[str]]:
    """
    Args:
        value: what was pickled.
        most: characters that all captions may have together; the same list may be meant in many places.
    """
    if not isinstance(value, dict) or not value:
        raise TypeError(f"it holds {_what(value)}")
    captions: dict[str, list[str]] = {}
    for key, published in value.items():
        name = _text(key)
        if not isinstance(published, list | tuple):
            raise TypeError(f"{_what(published)} for the id {name[:_SHOWN]!r}")
        if name in captions:
            raise TypeError(f"the id {name[:_SHOWN]!r} comes twice")
        captions[name] = []
        for words in published:
            if not isinstance(words, list | tuple) or not all(isinstance(word, str | bytes) for word in words):
                raise TypeError(f"the id {name[:_SHOWN]!r} has a caption that is {_what(words)}")
            most -= 1 + len(words) + sum(map(len, words))
            if most < 0:
                raise TypeError("it unfolds to far more than its size")
            captions[name].append(" ".join(map(_text, words)).strip())
    return captions


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return str(value)


def _what(value: Any) -> str:
    """What a value is, never in full: lists within lists may unfold without end."""
    if isinstance(value, list | tuple | dict):
        return f"{'a' if value else 'an empty'} {type(value).__name__}"
    shown = f", {value[:_SHOWN]!r}" if isinstance(value, str | bytes) else ""
    return f"a {type(value).__name__}{shown}"
