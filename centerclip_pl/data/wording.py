"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 video`` or ``1,200 videos``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
