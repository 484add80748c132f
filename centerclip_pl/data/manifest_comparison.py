"""Two copies of a dataset, compared file by file: figures differ where videos were compressed differently."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from centerclip_pl.data.video_files import split_suffix

_DURATION = 0.05  # seconds; containers round times


class Difference(NamedTuple):
    """What differs about one file."""

    path: str
    detail: str


class Comparison(NamedTuple):
    """Two manifests, file by file."""

    same: int
    differing: list[Difference]
    """Content, frames, duration or picture size."""
    only_here: list[str]
    only_there: list[str]


def compare(here: pd.DataFrame, there: pd.DataFrame) -> Comparison:
    """Which files of two copies of a dataset are not the same.

    Files are found again by their path, or else by their name without folder and ending where only one is called so, as
    copies are laid out and compressed differently. Contents are compared by their hash, or by their size where one side
    has none. Durations within 0.05 s count as equal.

    Args:
        here: the user's manifest.
        there: somebody's.
    """
    theirs: dict[str, dict[Hashable, Any]] = {str(row["path"]): row for row in there.to_dict("records")}
    by_name = _by_name(set(theirs) - set(here["path"]))
    mine_by_name = _by_name(set(here["path"]) - set(theirs))
    same, differing, only_here = 0, [], []
    for mine in here.to_dict("records"):
        name = str(mine["path"])
        stem = _stem(name)
        path = name if name in theirs else by_name.get(stem) if mine_by_name.get(stem) else None
        if path is None:
            only_here.append(name)
        elif what := _differences(mine, theirs.pop(path)):
            differing.append(Difference(name, "; ".join(what)))
        else:
            same += 1
    return Comparison(same, differing, only_here, sorted(theirs))


def _differences(a: Mapping[Hashable, Any], b: Mapping[Hashable, Any]) -> list[str]:
    what = []
    if pd.isna(a["sha256"]) or pd.isna(b["sha256"]):
        if a["size"] != b["size"]:
            what.append(f"size {a['size']:,} bytes, not {b['size']:,}")
    elif a["sha256"] != b["sha256"]:
        what.append("content")
    if a["num_frames"] != b["num_frames"]:
        what.append(f"{a['num_frames']:,} frames, not {b['num_frames']:,}")
    if abs(a["duration"] - b["duration"]) > _DURATION:
        what.append(f"{a['duration']:.2f} s, not {b['duration']:.2f} s")
    if (a["width"], a["height"]) != (b["width"], b["height"]):
        what.append(f"{a['width']}x{a['height']} pixels, not {b['width']}x{b['height']}")
    return what


def _stem(path: str) -> str:
    """The name without folder and endings: some copies have ``.mov.mp4`` for ``.mov``."""
    stem, suffix = split_suffix(PurePosixPath(path).name)
    while suffix:
        stem, suffix = split_suffix(stem)
    return stem


def _by_name(paths: Iterable[str]) -> dict[str, str | None]:
    """Paths by the name of the file without folder and ending; None where several are called so."""
    found: dict[str, str | None] = {}
    for path in paths:
        stem = _stem(path)
        found[stem] = None if stem in found else path
    return found
