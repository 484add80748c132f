"""A pickled dict of captions, read without running anything that is in the file."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from centerclip_pl.data.annotations import read_bytes
from centerclip_pl.errors import DataError

_SHAPE = "a pickled dict with a list of captions for each id, each caption a list of words"


def read_pickled_captions(file: Path, next_step: str) -> dict[str, list[str]]:
    """The captions in a file like MSVD's ``raw-captions.pkl``: id -> list of captions, each a list of words.

    Pickles are programs. This reads those that hold dicts, lists, tuples and texts, and nothing else: a file that names
    a function or a class is refused before it is looked up. Texts may be Python 3's, Python 2's of both kinds, or
    bytes; bytes are UTF-8, or else Latin-1.

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
        value = _Plain(stream, file, next_step).load()
    except DataError:
        raise
    except Exception as error:  # damaged pickles raise nearly everything: EOFError, KeyError, MemoryError ...
        raise DataError(
            f"{file} is not {_SHAPE}, or is damaged or cut off ({type(error).__name__}: {error})", next_step
        ) from error
    if stream.tell() != len(content):
        raise DataError(f"{file}: more follows behind the pickled dict", next_step)
    try:
        return _captions(value)
    except TypeError as error:
        raise DataError(f"{file} is not {_SHAPE}: {error}", next_step) from error


class _Encode:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes in the old protocols.

    Without a ``__dict__``, so that a pickle cannot change it.
    """

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise TypeError("bytes are written in an unknown way")
        return text.encode("latin-1")


class _Plain(pickle._Unpickler):
    """Makes dicts, lists, tuples, texts and numbers; looks up no name.

    The unpickler that is written in Python: the one in C sets memory aside as a damaged or hostile file tells it to,
    64 GiB for six bytes. MSVD's captions take half a second.
    """

    def __init__(self, stream: io.BytesIO, file: Path, next_step: str) -> None:
        super().__init__(stream, encoding="bytes")
        self._file = file
        self._next_step = next_step

    def find_class(self, module: Any, name: Any) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Encode()
        raise DataError(
            f"{self._file} holds more than captions: it names {_text(module)}.{_text(name)}, which could run code; "
            "nothing of it was loaded",
            f"do not trust this file; get the published one. {self._next_step}",
        )


def _captions(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict) or not value:
        raise TypeError(f"it holds {_what(value)}")
    captions: dict[str, list[str]] = {}
    for key, published in value.items():
        if not isinstance(key, str | bytes) or not isinstance(published, list | tuple):
            raise TypeError(f"{_what(published)} for the id {_text(key)!r}")
        if _text(key) in captions:
            raise TypeError(f"the id {_text(key)!r} comes twice")
        captions[_text(key)] = [_sentence(words, key) for words in published]
    return captions


def _sentence(words: Any, key: str | bytes) -> str:
    if not isinstance(words, list | tuple) or not all(isinstance(word, str | bytes) for word in words):
        raise TypeError(f"the id {_text(key)!r} has a caption that is {_what(words)}")
    return " ".join(_text(word) for word in words).strip()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return str(value)


def _what(value: Any) -> str:
    if isinstance(value, list | tuple | dict) and not value:
        return f"an empty {type(value).__name__}"
    return f"a {type(value).__name__}, {repr(value)[:60]}"
