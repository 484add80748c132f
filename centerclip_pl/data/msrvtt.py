"""MSR-VTT (Xu et al., CVPR 2016), with the splits by which retrieval is compared."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from centerclip_pl.data.annotations import Annotations
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.video_files import VideoFiles
from centerclip_pl.errors import ConfigError

_VIDEO_FOLDERS = ("videos", "MSRVTT/videos/all", "MSRVTT_Videos")
_ANNOTATION_FOLDERS = (".", "annotations", "msrvtt_data")


class MSRVTT(RetrievalDataModule):
    """MSR-VTT with the 1k-A test split of JSFusion: 1,000 videos with one caption each.

    Training is on the 9,000 other videos (``"9k"``, the usual choice) or on the 7,010 videos of the older split
    (``"7k"``), 20 captions a video. There is no validation split of its own beside 1k-A: ``val_videos`` (500) of the
    training videos are held out, unless ``select_on_test`` repeats what the published systems do.

    ``root`` holds, as published and unpacked::

        MSRVTT_train.9k.csv  MSRVTT_train.7k.csv  MSRVTT_JSFUSION_test.csv  MSRVTT_data.json
        videos/video0.mp4 ... videos/video9999.mp4

    The annotations may also lie in ``annotations/`` or ``msrvtt_data/``, the videos in ``videos/all/`` or
    ``MSRVTT/videos/all/``, as the archives unpack them, in ``MSRVTT_Videos/`` or anywhere below ``root``, with any of
    the usual endings.

    Args:
        root: the folder above.
        training: which training split.
        **kwargs: see :class:`~centerclip_pl.data.datamodule.RetrievalDataModule`. The published figures train with
            ``captions_per_video="all"``.
    """

    name = "msrvtt"

    def __init__(self, root: str = "data/msrvtt", training: Literal["9k", "7k"] = "9k", **kwargs: Any) -> None:
        super().__init__(root=root, **kwargs)
        if training not in ("9k", "7k"):
            raise ConfigError(f"training={training!r}: must be 9k or 7k")
        self.training_split = training

    @property
    def next_step(self) -> str:
        return "\n     ".join(
            [
                f"Put MSR-VTT into {self.root} (another folder: --data.root=FOLDER), or run",
                "`centerclip data download msrvtt`:",
                "  MSRVTT_train.9k.csv, MSRVTT_train.7k.csv, MSRVTT_JSFUSION_test.csv and MSRVTT_data.json, from",
                "    https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msrvtt_data.zip",
                "  videos/video0.mp4 to videos/video9999.mp4, from",
                "    https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip",
                "Both zip files may be unpacked there as they are.",
            ]
        )

    def protocol(self, split: str) -> str:
        """``"msrvtt-1ka"`` for test; held-out videos are compared with nothing but themselves."""
        if split == "test" or (split == "val" and self.select_on_test):
            return "msrvtt-1ka"
        return f"msrvtt-{self.training_split}-{'held-out' if split == 'val' else split}"

    def tables(self) -> dict[str, pd.DataFrame]:
        annotations = Annotations(self.root, _ANNOTATION_FOLDERS, self.next_step)
        train_file = annotations.require(f"MSRVTT_train.{self.training_split}.csv")
        test_file = annotations.require("MSRVTT_JSFUSION_test.csv")
        source = annotations.require("MSRVTT_data.json")
        files = VideoFiles(self.video_root, _VIDEO_FOLDERS)
        train, train_lines = annotations.table(train_file, ["video_id"])
        test, test_lines = annotations.table(test_file, ["video_id", "sentence"])
        ids = [row["video_id"] for row in train]
        annotations.require_unique(train_file, ids, train_lines)
        annotations.require_unique(test_file, (row["video_id"] for row in test), test_lines)
        captions: dict[str, list[str]] = annotations.json(
            source, 'with "sentences", each with "video_id" and "caption"', _captions
        )
        annotations.require_captions(train_file, ids, captions, source)
        rows = [
            {"video_id": video_id, "path": files.path([video_id], f"{video_id}.mp4"), "caption": caption}
            for video_id in ids
            for caption in captions[video_id]
        ]
        test_rows = [
            {
                "video_id": row["video_id"],
                "path": files.path([row["video_id"]], f"{row['video_id']}.mp4"),
                "caption": row["sentence"],
            }
            for row in test
        ]
        return {
            "train": caption_table(rows, source, allow_repeats=True),  # has repeats, as published
            "test": caption_table(test_rows, test_file, lines=test_lines),
        }


def _captions(value: Any) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for place, sentence in enumerate(value["sentences"], start=1):
        video_id, caption = sentence["video_id"], sentence["caption"]
        if not isinstance(video_id, str) or not isinstance(caption, str):
            raise TypeError(f"sentence {place} has no texts for video_id and caption")
        captions.setdefault(video_id, []).append(caption)
    return captions
