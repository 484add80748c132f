"""Picking runs by a condition such as ``method == 'kmedoids' and segments >= 4``.

The text is parsed as a Python expression and walked through here; nothing of it is ever run.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from centerclip_pl.errors import ConfigError
from centerclip_pl.runs.column_names import near_columns, with_plain_names

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_CONSTANTS = {"True": True, "False": False, "true": True, "false": False, "None": None, "null": None}
_EXAMPLE = 'write a condition such as "method == \'kmedoids\' and segments >= 4" or "t2v/R@1 > 40"'
_LONGEST = 2000


def select(runs: pd.DataFrame, expression: str) -> pd.DataFrame:
    """The runs of which a condition holds.

    The condition compares columns with numbers or quoted text by ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``
    and ``not in`` (a list), joined by ``and``, ``or``, ``not`` and parentheses. Columns are written as they are called,
    ``t2v/R@1`` and ``model.optimizer.learning_rate`` too; in backticks or not. ``clusters == None`` asks for runs that
    have no value; they meet no other comparison but ``!=``.

    Args:
        runs: of :func:`centerclip_pl.runs.read_runs`, or any table.
        expression: the condition.

    Returns:
        The rows of which it holds, in their order; ``attrs`` are kept. May be empty.

    Raises:
        ConfigError: the condition cannot be understood, names a column that is not there, or compares text with a
            number.
    """
    if len(expression) > _LONGEST:
        raise ConfigError(f"the condition has {len(expression):,} characters, at most {_LONGEST:,} are read", _EXAMPLE)
    text, names = with_plain_names(expression, runs.columns)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python has something to say about "\\d"
            tree = ast.parse(text.strip(), mode="eval")
        mask = _Evaluation(runs, names, expression).truth(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        shown = expression if len(expression) < 100 else f"{expression[:100]}..."
        raise ConfigError(f"the condition {shown!r} cannot be understood", _EXAMPLE) from None
    chosen = runs[mask]
    chosen.attrs = dict(runs.attrs)
    return chosen


class _Evaluation:
    """Walks through a condition; every kind of node that is not named here is refused."""

    def __init__(self, runs: pd.DataFrame, names: dict[str, str], expression: str) -> None:
        self.runs, self.names, self.expression = runs, names, expression

    def truth(self, node: ast.expr) -> np.ndarray:
        """Of each run: bool ``[runs]``."""
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(value) for value in node.values]
            return np.logical_and.reduce(parts) if isinstance(node.op, ast.And) else np.logical_or.reduce(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.truth(node.operand)
        if isinstance(node, ast.Compare):
            terms = [node.left, *node.comparators]
            pairs = zip(terms, node.ops, terms[1:], strict=False)
            return np.logical_and.reduce([self._compare(left, op, right) for left, op, right in pairs])
        if isinstance(node, ast.Name) and node.id not in _CONSTANTS:
            column = self._column(node)
            if pd.api.types.is_bool_dtype(column):
                return column.to_numpy(dtype=bool)
            raise ConfigError(f"{self._name(node)} is compared with nothing in {self.expression!r}", _EXAMPLE)
        raise self._refusal(node)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> np.ndarray:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(left, ast.Name) or not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise ConfigError(f"`in` needs a column and a list: {self.expression!r}", "as in: segments in [2, 4]")
            each = [self._hold(self._column(left), ast.Eq(), self._value(value), left) for value in right.elts]
            found = np.logical_or.reduce(each) if each else np.zeros(len(self.runs), dtype=bool)
            return ~found if isinstance(op, ast.NotIn) else found
        if isinstance(op, ast.Is | ast.IsNot):
            op = ast.Eq() if isinstance(op, ast.Is) else ast.NotEq()
        if isinstance(left, ast.Name) and left.id not in _CONSTANTS:
            value: Any = None
            if isinstance(right, ast.Name) and right.id not in _CONSTANTS:
                if self._name(left) in self.runs.columns and self._name(right) not in self.runs.columns:
                    raise ConfigError(
                        f"{self._name(right)} is no column (in the condition {self.expression!r})",
                        f"put quotes around text: '{self._name(right)}'",
                    )
                value = self._column(right)
            else:
                value = self._value(right)
            return self._hold(self._column(left), op, value, left)
        if isinstance(right, ast.Name) and right.id not in _CONSTANTS:
            turned: dict[type[ast.cmpop], ast.cmpop] = {
                ast.Lt: ast.Gt(),
                ast.LtE: ast.GtE(),
                ast.Gt: ast.Lt(),
                ast.GtE: ast.LtE(),
            }
            return self._hold(self._column(right), turned.get(type(op), op), self._value(left), right)
        for node in (left, right):
            if not isinstance(node, ast.Constant | ast.Name | ast.UnaryOp):
                raise self._refusal(node)
        raise ConfigError(f"{self.expression!r} compares no column", _EXAMPLE)

    def _hold(self, column: pd.Series[Any], op: ast.cmpop, value: Any, node: ast.Name) -> np.ndarray:
        compare = _COMPARISONS.get(type(op))
        if compare is None:
            raise self._refusal(node)
        missing = column.isna().to_numpy(dtype=bool)
        if value is None:
            if not isinstance(op, ast.Eq | ast.NotEq):
                raise ConfigError(f"None is neither more nor less: {self.expression!r}", "ask == None or != None")
            return missing if isinstance(op, ast.Eq) else ~missing
        other = value.to_numpy(dtype=object) if isinstance(value, pd.Series) else [value] * len(column)
        held = np.array(
            [
                isinstance(op, ast.NotEq) if absent or _is_missing(b) else self._one(compare, a, b, node)
                for a, b, absent in zip(column.to_numpy(dtype=object), other, missing, strict=True)
            ],
            dtype=bool,
        )
        return held

    def _one(self, compare: Callable[[Any, Any], Any], a: Any, b: Any, node: ast.Name) -> bool:
        if isinstance(a, str) != isinstance(b, str):
            kinds = ("text", "a number") if isinstance(a, str) else ("a number", "text")
            raise ConfigError(
                f"{self._name(node)} is {kinds[0]} ({a!r}) and is compared with {kinds[1]} ({b!r})",
                "put quotes around text, and none around numbers",
            )
        return bool(compare(a, b))

    def _value(self, node: ast.expr) -> Any:
        """A number, a text, a truth value or None."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._value(node.operand)
            if isinstance(value, int | float):
                return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Name) and node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        if isinstance(node, ast.Name):
            raise ConfigError(
                f"{self._name(node)} stands where a value belongs in {self.expression!r}", "put quotes around text"
            )
        raise self._refusal(node)

    def _name(self, node: ast.Name) -> str:
        return self.names.get(node.id, node.id)

    def _column(self, node: ast.Name) -> pd.Series[Any]:
        name = self._name(node)
        if name not in self.runs.columns:
            raise ConfigError(
                f"there is no column {name!r} (in the condition {self.expression!r})",
                f"{near_columns(name, self.runs.columns)}; text needs quotes",
            )
        return self.runs[name]

    def _refusal(self, node: ast.AST) -> ConfigError:
        what = {
            ast.Call: "calls a function",
            ast.Attribute: "has a dot where no column's name is",
            ast.MatMult: "has an @",
            ast.BinOp: "calculates",
            ast.Subscript: "has an index",
        }
        says = what.get(type(node), "is more than a comparison")
        if isinstance(node, ast.Attribute | ast.BinOp):
            part = ast.unparse(node)
            for plain, name in self.names.items():
                part = part.replace(plain, name)
            compact = part.replace(" ", "")
            return ConfigError(
                f"there is no column {compact!r}, and conditions only compare (in {self.expression!r})",
                near_columns(compact, self.runs.columns),
            )
        return ConfigError(
            f"the condition {self.expression!r} {says}, but conditions only compare columns with values", _EXAMPLE
        )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
