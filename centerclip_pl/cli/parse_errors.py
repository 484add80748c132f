"""What the parser of options says, in one sentence."""

from __future__ import annotations

import inspect
import re
from argparse import ArgumentError
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from pydoc import locate

from centerclip_pl.errors import CenterCLIPError

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
    "list": "a list, in brackets: [a,b]",
}
_UNKNOWN = re.compile(r"class_path '([\w.]+)':\s*Option '([\w.]+)' is not accepted")
_EXPECTED = re.compile(r"Expected an? (?:typing\.)?(<class '[\w.]+'>|Literal\[[^\]]*\])")
_KEY = re.compile(r'Parser key "([\w.]+)"')
_UNRECOGNISED = re.compile(r"unrecognized arguments: (--[\w.]+)")
_NESTED = re.compile(r"Given value: NestedArg\(key='([\w.]+)', val='(.*)'\)")
_GOT = re.compile(r"Got value: (.*)|Given value: (?!NestedArg)(.*)")


def find_mistake(error: BaseException) -> str | None:
    """What the user can mend about an error that wraps one of ours, or that Lightning raises about options."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, CenterCLIPError) or type(seen).__name__ == "MisconfigurationException":
            return str(seen)
        if type(seen).__module__.partition(".")[0] == "omegaconf":  # ${tokens.segmens}, or ${ alone
            return f"a value with ${{...}} cannot be understood: {str(seen).splitlines()[0]}"
        # What the parser's errors come from is in their context alone; elsewhere that may be a defect's neighbour.
        wrapped = isinstance(seen, (ArgumentError, TypeError, ValueError))
        seen = seen.__cause__ or (seen.__context__ if wrapped else None)
    return None


def unreadable_options(words: Sequence[str]) -> str | None:
    """What is wrong with the first file of ``--config`` that is no YAML mapping of options; None: with none of them.

    For what the parser raises about such files without their name.
    """
    from centerclip_pl.cli.experiment import read_experiment

    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name != "--config":
            continue
        try:
            read_experiment(Path(value if equals else following))
        except CenterCLIPError as error:
            return str(error)
    return None


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
    nested = _NESTED.search(text)
    if nested and "Expected an instantiatable class" in text:
        option = f"{keys[0]}.{nested[1]}"
        return f"--{option}={nested[2]} has nothing to belong to: --{keys[0]} is null"
    kinds = [kind for kind in _EXPECTED.findall(text) if kind != "<class 'NoneType'>"]
    got = [one or other for one, other in _GOT.findall(text)]
    if not kinds or not got:
        return re.sub(r"<class '([\w.]+)'>", lambda kind: _KINDS.get(kind[1], kind[1]), text)
    option = keys[0] if len(keys) == 1 else f"{keys[0]}.{keys[-1].removeprefix(f'{keys[0]}.')}"
    return f"--{option}={got[0]}: must be {' or '.join(dict.fromkeys(_words(kind) for kind in kinds))}"


def with_near_names(error: ArgumentError, known: Iterable[str]) -> ArgumentError:
    """An error about an option that does not exist, with the nearest one that does; another error as it is.

    Args:
        error: of the parser.
        known: the options that there are, e.g. ``--tokens.segments``.
    """
    unknown = _UNRECOGNISED.match(str(error))
    if unknown is None:
        return error
    near = get_close_matches(unknown[1], sorted(known), n=1, cutoff=0.75)
    return ArgumentError(None, f"{error}\n  -> did you mean {near[0]}?") if near else error


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
