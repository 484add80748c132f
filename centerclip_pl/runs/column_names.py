"""The names of columns in what users write: ``t2v/R@1`` is no name in Python, and names are misspelt."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from centerclip_pl.errors import ConfigError


def near_columns(name: str, columns: Iterable[str]) -> str:
    """``did you mean ...?``, or which columns there are."""
    columns = [str(column) for column in columns]
    endings = {column.lower().rpartition(".")[2]: column for column in columns}
    near = get_close_matches(name.lower(), [column.lower() for column in columns], n=3, cutoff=0.6)
    found = [column for column in columns if column.lower() in near]
    found += [endings[end] for end in get_close_matches(name.lower().rpartition(".")[2], endings, n=1, cutoff=0.8)]
    if found:
        return f"did you mean {' or '.join(dict.fromkeys(found))}?"
    return f"the columns are {', '.join(columns)}; an option has one where the runs differ in it"


def with_plain_names(expression: str, columns: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The expression with an identifier in place of each column's name that is none, and what those stand for.

    Text in quotes is left alone. The longest name that fits is taken.
    """
    odd = sorted((str(c) for c in columns if not str(c).isidentifier()), key=len, reverse=True)
    names: dict[str, str] = {}
    result, position, quote = [], 0, ""
    while position < len(expression):
        character = expression[position]
        if quote and character == "\\":  # what follows is in the text, a quotation mark too
            result.append(expression[position : position + 2])
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "`":
            end = expression.find("`", position + 1)
            if end < 0:
                raise ConfigError(f"the condition {expression!r} has a single backtick", "they go in pairs: `t2v/R@1`")
            result.append(_stand_in(expression[position + 1 : end], names))
            position = end + 1
            continue
        elif not (position and _goes_on(expression[position - 1])):
            name = next((n for n in odd if _starts(expression, n, position)), None)
            if name is not None:
                result.append(_stand_in(name, names))
                position += len(name)
                continue
        result.append(character)
        position += 1
    return "".join(result), names


def _stand_in(name: str, names: dict[str, str]) -> str:
    plain = f"_column_{len(names)}_"
    names[plain] = name
    return plain


def _goes_on(character: str) -> bool:
    """Whether a name may go on with it."""
    return character.isalnum() or character in "_./@"


def _starts(expression: str, name: str, position: int) -> bool:
    end = position + len(name)
    return expression.startswith(name, position) and (end == len(expression) or not _goes_on(expression[end]))
