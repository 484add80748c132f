"""A few clips with windows, and the cache of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.frame_cache.layout import CacheSettings
from centerclip_pl.data.frame_cache.writing import Written, write_cache
from centerclip_pl.video.decode import DEFAULT_DECODER, read_frames
from centerclip_pl.video.transforms import resize_and_crop

MakeVideo = Callable[..., Path]
SIZE = 32


class Source(NamedTuple):
    root: Path
    tables: dict[str, pd.DataFrame]

    def settings(self, **changes: Any) -> CacheSettings:
        return CacheSettings("tiny", SIZE, None, "raw", DEFAULT_DECODER)._replace(**changes)

    def write(self, out: Path, **options: Any) -> Written:
        """``write_cache``, one job; options that are settings go there."""
        changes = {name: options.pop(name) for name in CacheSettings._fields if name in options}
        options = {"jobs": 1, "layout": "put the videos there"} | options
        tables = options.pop("tables", self.tables)
        return write_cache(tables, self.root, out, self.settings(**changes), **options)

    def frames(self, video_id: str, fps: float | None = None) -> torch.Tensor:
        """What the file says, without a cache."""
        table = pd.concat(self.tables.values())
        row = table[table["video_id"] == video_id].iloc[0]
        start, end = (None if np.isnan(row[name]) else row[name] for name in ("start", "end"))
        return resize_and_crop(read_frames(row["path"], range, start, end, fps=fps), SIZE)


def tables_of(rows: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    return {
        split: caption_table([row for row in rows if row["split"] == split], "rows")
        for split in dict.fromkeys(row["split"] for row in rows)
    }


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Source:
    """3 files of 24, 30 and 36 frames at 12 a second; the third gives three clips. Video ``b`` is in two splits."""
    root = tmp_path_factory.mktemp("frames_source")
    smooth = np.linspace(0, 1, 64)[None, :, None] * np.array([200, 120, 40])

    def picture(seed: int) -> Callable[[int], np.ndarray]:
        return lambda k: (smooth + np.array([3 * k % 50, 10 * seed, 2 * k % 60])).repeat(48, axis=0).astype(np.uint8)

    for name, count in (("a", 24), ("b", 30), ("c", 36)):
        (root / "videos").mkdir(exist_ok=True)
        make_video(root / "videos" / f"{name}.mp4", count, color_fn=picture(ord(name) - 96))
    path = {name: str(root / "videos" / f"{name}.mp4") for name in "abc"}
    rows: list[dict[str, Any]] = [
        {"video_id": "a", "path": path["a"], "caption": "w1", "split": "train"},
        {"video_id": "a", "path": path["a"], "caption": "w2", "split": "train"},
        {"video_id": "b", "path": path["b"], "caption": "w3", "split": "train"},
        {"video_id": "c0", "path": path["c"], "caption": "w4", "split": "train", "start": 0.0, "end": 1.0},
        {"video_id": "c1", "path": path["c"], "caption": "w5", "split": "test", "start": 0.95, "end": 2.2},
        {"video_id": "c2", "path": path["c"], "caption": "w6", "split": "test", "start": 2.0},
        {"video_id": "b", "path": path["b"], "caption": "w7", "split": "test"},
    ]
    return Source(root, tables_of(rows))


@pytest.fixture(scope="session")
def cache_folder(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw cache of all of it; not to be changed."""
    out = tmp_path_factory.mktemp("frame_cache") / "raw"
    source.write(out)
    return out
