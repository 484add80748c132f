"""Captions and video files to batches: one class a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from centerclip_pl.data.custom import Custom
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.msrvtt import MSRVTT

if TYPE_CHECKING:
    from centerclip_pl.data.demo import Demo

__all__ = ["MSRVTT", "Custom", "Demo", "RetrievalDataModule"]


def __getattr__(name: str) -> Any:
    # The generator of the demo is not needed to read other datasets.
    if name == "Demo":
        from centerclip_pl.data.demo import Demo

        return Demo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
