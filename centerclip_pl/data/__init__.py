"""Captions and video files to batches: one class a dataset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centerclip_pl.data.custom import Custom
    from centerclip_pl.data.datamodule import RetrievalDataModule
    from centerclip_pl.data.demo import Demo
    from centerclip_pl.data.msrvtt import MSRVTT

__all__ = ["MSRVTT", "Custom", "Demo", "RetrievalDataModule"]

_HOMES = {"MSRVTT": "msrvtt", "Custom": "custom", "Demo": "demo", "RetrievalDataModule": "datamodule"}


def __getattr__(name: str) -> Any:
    # On demand: the processes that draw the demo's videos or check files wait for neither torch nor Lightning.
    if name in _HOMES:
        return getattr(importlib.import_module(f"centerclip_pl.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
