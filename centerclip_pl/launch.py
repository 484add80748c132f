"""Which of the processes of a launch this one is, as the launcher's variables tell it before Lightning knows."""

from __future__ import annotations

import os

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # what Lightning looks at, in its order
_RANKS_ON_MACHINE = ("LOCAL_RANK", "SLURM_LOCALID")
_NODES = ("NODE_RANK", "GROUP_RANK")


def is_first_process(*, of_machine: bool = False) -> bool:
    """Whether this is the process of a launch that writes: rank 0, on the first of its machines.

    Args:
        of_machine: the first of those on this machine instead.
    """
    if of_machine:
        return _first_given(_RANKS_ON_MACHINE) == 0
    return _first_given(_RANKS) == _first_given(_NODES) == 0


def _first_given(names: tuple[str, ...]) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), 0)
