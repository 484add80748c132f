"""Captions and video files to batches: one class a dataset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centerclip_pl.data.activitynet import ActivityNet
    from centerclip_pl.data.custom import Custom
    from centerclip_pl.data.datamodule import RetrievalDataModule
    from centerclip_pl.data.demo import Demo
    from centerclip_pl.data.didemo import DiDeMo
    from centerclip_pl.data.lsmdc import LSMDC
    from centerclip_pl.data.msrvtt import MSRVTT
    from centerclip_pl.data.msvd import MSVD

__all__ = ["LSMDC", "MSRVTT", "MSVD", "ActivityNet", "Custom", "Demo", "DiDeMo", "RetrievalDataModule"]

_HOMES = {
    "ActivityNet": "activitynet",
    "Custom": "custom",
    "Demo": "demo",
    "DiDeMo": "didemo",
    "LSMDC": "lsmdc",
    "MSRVTT": "msrvtt",
    "MSVD": "msvd",
    "RetrievalDataModule": "datamodule",
}


def __getattr__(name: str) -> Any:
    # On demand: the processes that draw the demo's videos or check files wait for neither torch nor Lightning.
    if name in _HOMES:
        return getattr(importlib.import_module(f"centerclip_pl.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
