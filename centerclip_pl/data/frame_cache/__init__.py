"""Decoded frames of a dataset, written once and read by every run.

``layout`` says which files there are and what is in them, ``images`` how one frame is stored, ``writing`` makes a cache
(with ``worker``, the process that decodes, and ``shards``), ``reading`` reads one, from ``storage`` near or far.
docs/frame-cache.md describes the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centerclip_pl.data.frame_cache.reading import FrameCache

__all__ = ["FrameCache"]


def __getattr__(name: str) -> Any:
    # On demand: the processes that decode read nothing.
    if name == "FrameCache":
        from centerclip_pl.data.frame_cache.reading import FrameCache

        return FrameCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
