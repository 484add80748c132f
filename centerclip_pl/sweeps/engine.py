"""W&B's search, the package ``sweeps``, imported when it is needed: scikit-learn comes with it, which takes seconds."""

from __future__ import annotations

import warnings
from typing import Any


def engine() -> Any:
    """The package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its classes are written for pydantic 1, which 2 still understands
        import sweeps
    return sweeps
