"""``ranks.parquet``: the rank of every query of a test, which intervals and paired tests are computed from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from centerclip_pl.errors import DataError
from centerclip_pl.files import replacing

if TYPE_CHECKING:
    from centerclip_pl.retrieval.metrics import RankTable

COLUMNS = ("direction", "video_id", "caption", "rank")
FILE_NAME = "ranks.parquet"
_AGAIN = "test the run again: `centerclip eval --checkpoint=...`"


def write_ranks(path: str | Path, ranks: pd.DataFrame) -> None:
    """Writes ranks; the file appears whole or not at all.

    Args:
        path: where to.
        ranks: ``direction`` (``"t2v"`` or ``"v2t"``), ``video_id``, ``caption`` (None in ``v2t``, where a video is the
            query), ``rank`` (float64, from 1; tied candidates share the mean of their places); further columns may
            follow. One row a query, text to video first, each direction in the order of the split's table.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        ranks.astype({"direction": "category", "rank": "float64"}).to_parquet(part, index=False, compression="zstd")


def read_ranks(path: str | Path) -> pd.DataFrame:
    """Reads what :func:`write_ranks` wrote; ``direction``, ``video_id`` and ``caption`` are strings (or None).

    Raises:
        DataError: the file is absent, cut off, or lacks a column; a rank is below 1 or not a number.
    """
    path = Path(path)
    try:
        ranks = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file", _AGAIN) from None
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: cannot be read: {error}", f"the file was cut off or edited; {_AGAIN}") from error
    absent = [name for name in COLUMNS if name not in ranks.columns]
    if absent:
        raise DataError(f"{path}: lacks the column {', '.join(absent)}", _AGAIN)
    if not set(ranks["direction"].unique()) <= {"t2v", "v2t"}:
        raise DataError(f"{path}: has directions other than t2v and v2t", _AGAIN)
    if not pd.api.types.is_numeric_dtype(ranks["rank"]) or not bool(ranks["rank"].between(1, 2**53).all()):
        raise DataError(f"{path}: has ranks that are not numbers from 1 on", _AGAIN)
    caption = ranks["caption"].astype(object)
    return ranks.assign(
        direction=ranks["direction"].astype(str),
        video_id=ranks["video_id"].astype(str),
        caption=caption.where(caption.notna(), None),
        rank=ranks["rank"].astype("float64"),
    )


class RankedData(Protocol):
    """What :func:`rank_frame` asks of a datamodule."""

    def captions(self, split: str) -> pd.DataFrame:
        """One row a text: ``video_id`` and ``caption``; a text's id is its row."""

    def videos(self, split: str) -> list[str]:
        """The ids of the videos; a video's id in a batch is its place here."""


def rank_frame(table: RankTable, data: RankedData, split: str = "test") -> pd.DataFrame:
    """The ranks of a metric with the names of their queries, in the form of :func:`write_ranks`."""
    texts = data.captions(split).iloc[table.text_ids.tolist()]
    videos = np.asarray(data.videos(split), dtype=object)[table.video_ids.numpy()]
    t2v = pd.DataFrame(
        {
            "direction": "t2v",
            "video_id": texts["video_id"].to_numpy(dtype=object),
            "caption": texts["caption"].to_numpy(dtype=object),
            "rank": table.t2v.numpy(),
        }
    )
    v2t = pd.DataFrame({"direction": "v2t", "video_id": videos, "caption": None, "rank": table.v2t.numpy()})
    return pd.concat([t2v, v2t.astype({"caption": object})], ignore_index=True)
