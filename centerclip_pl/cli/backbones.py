"""What is known of a backbone before its weights are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def image_size_of(backbone: Any) -> int | None:
    """Height and width in pixels of the pictures that a backbone takes; None where that is not known yet.

    Args:
        backbone: a folder in the format of transformers; of anything else nothing is known before it is downloaded.
    """
    try:
        return int(_vision_config(backbone)["image_size"])
    except _UNKNOWN:
        return None


def vision_shape_of(backbone: Any) -> tuple[int, int] | None:
    """Blocks of a backbone's vision transformer, and patches of a frame; None where they are not known yet.

    Those of OpenAI's models are known by their names on the Hugging Face hub.

    Args:
        backbone: as in :func:`image_size_of`.
    """
    try:
        config = _vision_config(backbone)
        return int(config["num_hidden_layers"]), (int(config["image_size"]) // int(config["patch_size"])) ** 2
    except _UNKNOWN:
        return _OPENAI.get(str(backbone))


_OPENAI = {  # CLIP (arXiv 2103.00020), table 20: blocks; 224 pixels, 336 for the last one
    "openai/clip-vit-base-patch32": (12, 7**2),
    "openai/clip-vit-base-patch16": (12, 14**2),
    "openai/clip-vit-large-patch14": (24, 16**2),
    "openai/clip-vit-large-patch14-336": (24, 24**2),
}

# What is wrong with a folder is said where it is loaded.
_UNKNOWN = (OSError, ValueError, KeyError, TypeError, ZeroDivisionError)


def _vision_config(backbone: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(str(backbone)) / "config.json").read_text())["vision_config"]
    return content
