"""centerclip_pl: text-video retrieval with CLIP and multi-segment token clustering, on Lightning."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centerclip_pl.retrieval import RetrievalMetrics
    from centerclip_pl.training.checkpoints import load_checkpoint
    from centerclip_pl.training.module import TextVideoRetrieval

__version__ = "0.1.0"
__all__ = ["RetrievalMetrics", "TextVideoRetrieval", "__version__", "load_checkpoint"]

_HOMES = {
    "RetrievalMetrics": "centerclip_pl.retrieval",
    "TextVideoRetrieval": "centerclip_pl.training.module",
    "load_checkpoint": "centerclip_pl.training.checkpoints",
}


def __getattr__(name: str) -> Any:
    # On demand: `import centerclip_pl.clustering` needs torch alone, and must not wait for Lightning either.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
