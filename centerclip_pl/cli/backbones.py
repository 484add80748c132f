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
    file = Path(str(backbone)) / "config.json"
    try:
        return int(json.loads(file.read_text())["vision_config"]["image_size"])
    except (OSError, ValueError, KeyError, TypeError):  # what is wrong with it is said where it is loaded
        return None
