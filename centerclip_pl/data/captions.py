"""The one table from which everything about a dataset follows: which video, which file, which words.

One row a caption. Columns: ``video_id`` (str), ``path`` (str, the file), ``caption`` (str), ``start`` and ``end``
(float seconds, NaN for the whole file); further columns are kept, e.g. ``tag``, which names a group of queries whose
metrics are wanted on their own. Rows of the same ``video_id`` are captions of one video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from centerclip_pl.errors import ConfigError, DataError

COLUMNS = ("video_id", "path", "caption", "start", "end")
_SHOWN = 5  # how many lines or names an error message lists


def caption_table(
    rows: pd.DataFrame | Iterable[Mapping[str, Any]],
    source: str | Path,
    *,
    lines: Sequence[int] | None = None,
    allow_repeats: bool = False,
) -> pd.DataFrame:
    """Build a caption table and make sure that it makes sense.

    Args:
        rows: at least ``video_id``, ``path`` and ``caption`` each; ``start`` and ``end`` may be left out or empty.
        source: the file that the rows come from, for messages.
        lines: the line of ``source`` of each row, for messages; default: row 1, row 2, ...
        allow_repeats: accept the same caption twice for one video, as some published annotations have it.

    Returns:
        A new table with the columns of ``COLUMNS`` first, indexed 0, 1, ...

    Raises:
        DataError: no rows, a missing column, an empty caption, id or path, a repeated caption, times that make no
            sense, or one ``video_id`` with two files or time spans. The message names the lines.
    """
    try:
        table = pd.DataFrame(rows if isinstance(rows, pd.DataFrame) else list(rows)).reset_index(drop=True)
    except UnicodeEncodeError as error:  # JSON can spell half a character
        raise DataError(f"{source} has a text that is none: {error}", "get the file again, or correct it") from error
    absent = [name for name in ("video_id", "path", "caption") if name not in table.columns]
    if len(table) == 0:
        raise DataError(f"{source} has no captions", "every row needs a video and a caption")
    if absent:
        raise DataError(f"{source} has no column {', '.join(absent)}; it has {', '.join(map(str, table.columns))}")

    def refuse(bad: pd.Series, what: str, next_step: str) -> None:
        if bad.any():
            raise DataError(f"{source}, {_where(np.flatnonzero(bad), lines)}: {what}", next_step)

    for name in ("video_id", "path", "caption"):
        given = table[name]
        table[name] = given.where(given.notna(), "").astype(str).str.strip()
        refuse(table[name] == "", f"empty {name}", "fill it in, or delete the line")
    refuse(table["path"].str.contains("\0", regex=False), "a NUL character in the path", "correct the line")
    for name in ("start", "end"):
        given = table[name] if name in table.columns else pd.Series(np.nan, index=table.index)
        given = given.where(given.map(str).str.strip() != "", np.nan)
        numbers = pd.to_numeric(given, errors="coerce").astype("float64").replace([np.inf, -np.inf], np.nan)
        refuse(numbers.isna() & given.notna(), f"{name} is not a number", "give seconds, or leave it empty")
        refuse(numbers < 0, f"{name} is negative", "give seconds from the beginning of the file")
        table[name] = numbers
    refuse(table["end"] <= table["start"].fillna(0.0), "end is not after start", "give start < end, in seconds")
    if not allow_repeats:
        repeated = table.duplicated(["video_id", "caption"])
        refuse(repeated, "the same caption again for the same video", "delete the repeated lines")
    spans = table.groupby("video_id", sort=False)[["path", "start", "end"]]
    differs = (spans.transform("nunique", dropna=False) > 1).any(axis=1)
    refuse(differs, "one video_id with several files or time spans", "give each clip a video_id of its own")
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def video_list(table: pd.DataFrame) -> pd.DataFrame:
    """One row a video (``video_id``, ``path``, ``start``, ``end``), in the order of first appearance, from 0."""
    return table.drop_duplicates("video_id")[["video_id", "path", "start", "end"]].reset_index(drop=True)


def without_videos(table: pd.DataFrame, video_ids: Collection[str]) -> pd.DataFrame:
    """The table less all captions of these videos, indexed anew."""
    return table[~table["video_id"].isin(list(video_ids))].reset_index(drop=True)


def hold_out(table: pd.DataFrame, videos: int | float, option: str = "val_videos") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a training table in two, by video: the part to train on, and the part to validate or test on.

    The choice follows from a hash of each ``video_id`` alone: it is the same on every machine and in every run, in
    whatever order the rows come, and adding videos moves few others.

    Args:
        table: a caption table.
        videos: how many videos to hold out (a whole number), or which share of them (between 0 and 1).
        option: the option that says so, for messages.

    Raises:
        ConfigError: a negative number, or a share of 1 or more.
        DataError: nothing would remain to train on.
    """
    ids = video_list(table)["video_id"].tolist()
    if isinstance(videos, float) and not videos.is_integer():
        if not 0 < videos < 1:
            raise ConfigError(f"{option}={videos}: give a whole number, or a share between 0 and 1")
        count = max(1, round(videos * len(ids)))
    else:
        count = int(videos)
    if count < 1:
        purpose = "choose a checkpoint by" if option == "val_videos" else "test on"
        raise ConfigError(f"{option}={videos}: at least one video is needed to {purpose}")
    if count >= len(ids):
        raise _nothing_left(option, videos, len(ids))
    held = set(sorted(ids, key=lambda video_id: hashlib.sha256(video_id.encode()).digest())[:count])
    is_held = table["video_id"].isin(list(held))
    return table[~is_held].reset_index(drop=True), table[is_held].reset_index(drop=True)


def _nothing_left(option: str, videos: int | float, given: int) -> DataError:
    # Where test videos are held out of one list, videos to validate on are held out next.
    is_test = option == "test_videos"
    kept = 2 if is_test else 1
    all_of_them = "the only training video" if given == 1 else f"all {given:,} training videos"
    if given > kept:
        step = f"give at most {given - kept:,}: --data.{option}={given - kept}"
    else:
        purposes = "to train on, to validate on and to test on" if is_test else "to train on and to validate on"
        step = f"at least {kept + 1} videos are needed, {purposes}"
    return DataError(
        f"{option}={videos} would hold out {all_of_them}",
        f"{step}; or add videos, or, in a caption file of your own, name the splits in a column split",
    )


def _where(rows: Sequence[int] | np.ndarray, lines: Sequence[int] | None) -> str:
    """``line 3``, or ``rows 1, 2, 7 and 12 more``."""
    kind = "row" if lines is None else "line"
    numbers = [str(row + 1 if lines is None else lines[row]) for row in rows]
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{kind}{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:_SHOWN])}{more}"
