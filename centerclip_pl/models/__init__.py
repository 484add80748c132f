"""CLIP's two towers, with reducers inside the vision one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from centerclip_pl.models.backbone import load_backbone
from centerclip_pl.models.recomputing import recompute_activations
from centerclip_pl.models.text import TextTower
from centerclip_pl.models.vision import CLIP_MEAN, CLIP_STD, VideoTower

if TYPE_CHECKING:
    from centerclip_pl.training.importing import import_checkpoint as import_checkpoint

# `import_checkpoint` is missing, because it needs Lightning, which this package does not.
__all__ = ["CLIP_MEAN", "CLIP_STD", "TextTower", "VideoTower", "load_backbone", "recompute_activations"]


def __getattr__(name: str) -> Any:
    # On demand, and by its name: what is imported makes LightningModules, of which this package knows nothing else.
    if name == "import_checkpoint":
        return importlib.import_module("centerclip_pl.training.importing").import_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
