"""What the parser of options says, in one sentence."""

from __future__ import annotations

import inspect
import re
from argparse import ArgumentError
from difflib import get_close_matches
from pydoc import locate

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "NoneType": "null"}
_UNKNOWN = re.compile(r"class_path '([\w.]+)':\s*Option '([\w.]+)' is not accepted")
_EXPECTED = re.compile(r"Expected an? (?:typing\.)?(<class '[\w.]+'>|Literal\[[^\]]*\])")
_KEY = re.compile(r'Parser key "([\w.]+)"')
_GOT = re.compile(r"Got value: (.*)|Given value: (?!NestedArg)(.*)")


def plain_message(error: ArgumentError) -> str:
    """The parser's own text names types of Python and its own classes; this says the same shortly.

    Returns:
        One sentence, and a second line with a near name where there is one; its own text where it is not understood.
    """
    text = str(error)
    keys = list(dict.fromkeys(_KEY.findall(text)))
    if not keys:
        return text
    if unknown := _UNKNOWN.search(text):
        path, name = unknown.groups()
        near = get_close_matches(name, _options(path), n=1)
        hint = f"\n  -> did you mean --{keys[0]}.{near[0]}?" if near else ""
        return f"{path.rpartition('.')[2]} has no option --{keys[0]}.{name}{hint}"
    kinds = [kind for kind in _EXPECTED.findall(text) if kind != "<class 'NoneType'>"]
    got = [one or other for one, other in _GOT.findall(text)]
    if not kinds or not got:
        return text
    option = keys[0] if len(keys) == 1 else f"{keys[0]}.{keys[-1].removeprefix(f'{keys[0]}.')}"
    return f"--{option}={got[0]}: must be {' or '.join(dict.fromkeys(_words(kind) for kind in kinds))}"


def _words(kind: str) -> str:
    if kind.startswith("Literal"):
        choices = re.findall(r"'([^']*)'", kind)
        return f"one of {', '.join(choices)}" if choices else kind
    name = kind.removeprefix("<class '").removesuffix("'>")
    return _KINDS.get(name, f"a {name}")


def _options(path: str) -> list[str]:
    """The names of a class's options, those of the classes that it hands ``**kwargs`` to included."""
    kind = locate(path)
    if not isinstance(kind, type):
        return []
    names = (name for base in kind.__mro__ for name in _parameters(base))
    return [name for name in dict.fromkeys(names) if name not in ("self", "args", "kwargs")]


def _parameters(kind: type) -> list[str]:
    init = vars(kind).get("__init__")
    return list(inspect.signature(init).parameters) if inspect.isfunction(init) else []
