"""Which runs may stand in one table: those that were tested on the same split by the same protocol."""

from __future__ import annotations

import pandas as pd

from centerclip_pl.errors import DataError

_KEYS = ["dataset", "split", "protocol"]


def split_protocols(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs of each dataset, split and protocol by themselves.

    Args:
        runs: of :func:`centerclip_pl.runs.read_runs`.

    Returns:
        By a label such as ``"demo, test, protocol demo-200"``, in the order of the labels; rows keep their order and
        index. A test that left batches out is a protocol of its own, ``"demo-200 (partial)"``.
    """
    parts = {
        f"{dataset}, {split}, protocol {protocol}": part
        for (dataset, split, protocol), part in runs.groupby(_KEYS, dropna=False, sort=True)
    }
    for part in parts.values():
        part.attrs = dict(runs.attrs)
    return parts


def one_protocol(runs: pd.DataFrame) -> str:
    """The label of the one protocol that all runs have, as :func:`split_protocols` gives it.

    Raises:
        DataError: there are several, or no runs.
    """
    parts = split_protocols(runs)
    if not parts:
        raise DataError("there are no runs to compare", "the condition that picked them may leave none")
    if len(parts) > 1:
        found = "; ".join(f"{label} ({len(part)} run{'s' if len(part) > 1 else ''})" for label, part in parts.items())
        raise DataError(
            f"these runs cannot stand in one table, their figures are of different protocols: {found}",
            "pick one: `--where \"dataset == '...' and protocol == '...'\"`, or a folder that has one only",
        )
    return next(iter(parts))
