"""A dataset that needs no download: a small world of moving shapes, drawn, filmed and described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centerclip_pl.data.demo.datamodule import Demo

__all__ = ["Demo"]


def __getattr__(name: str) -> Any:
    # The generator's processes need neither torch nor lightning, which the datamodule brings.
    if name == "Demo":
        from centerclip_pl.data.demo.datamodule import Demo

        return Demo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
