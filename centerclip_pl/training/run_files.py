"""What the files beside a run's ``results.json`` say that it does not."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from centerclip_pl.errors import DataError


def architecture_of(backbone: Any) -> dict[str, Any] | None:
    """``vision_config`` of a local folder in the form of transformers; None where there is none to be read."""
    file = Path(str(backbone)) / "config.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # Not needed for the figures: the comparison says that the architecture is not known, this line why.
        print(f"note: {file} cannot be read: {error}", file=sys.stderr, flush=True)
        return None
    vision = content.get("vision_config") if isinstance(content, dict) else None
    return vision if isinstance(vision, dict) else None


def training_memory(file: Path) -> float | None:
    """The highest ``train/peak_memory_mb`` of a run's ``metrics.csv``, in MiB; None where none was measured.

    Raises:
        DataError: the file cannot be read.
    """
    if not file.is_file():
        return None
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            cells = [row.get("train/peak_memory_mb") for row in csv.DictReader(stream)]
        return max((float(cell) for cell in cells if cell), default=None)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read: {error}", "restore the file, or move it away") from error
