"""MSVD (Chen and Dolan, ACL 2011), with the split of Venugopalan et al. and all captions of a video at the test."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from centerclip_pl.data.annotations import Annotations
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.pickles import read_pickled_captions
from centerclip_pl.data.splits import SPLITS
from centerclip_pl.data.video_files import VideoFiles

_log = logging.getLogger(__name__)
_VIDEO_FOLDERS = ("YouTubeClips", "MSVD_Videos", "videos")
_ANNOTATION_FOLDERS = (".", "annotations", "msvd_data")


class MSVD(RetrievalDataModule):
    """MSVD: 1,200 videos to train on, 100 for validation, 670 for the test, each with some 40 captions.

    All captions of a test video are queries; a video is found by any of its captions (see
    :func:`~centerclip_pl.retrieval.retrieval_metrics`).

    ``root`` holds, as published and unpacked::

        train_list.txt  val_list.txt  test_list.txt  raw-captions.pkl
        YouTubeClips/-4wsuPCjDBc_5_15.avi ...

    The annotations may also lie in ``annotations/`` or ``msvd_data/``, the videos in ``MSVD_Videos/``, ``videos/`` or
    anywhere below ``root``, with any of the usual endings. Captions without a word are left out and counted in a
    warning.

    Args:
        root: the folder above.
        **kwargs: see :class:`~centerclip_pl.data.datamodule.RetrievalDataModule`. The published figures train with
            ``captions_per_video="all"``.
    """

    name = "msvd"

    def __init__(self, root: str = "data/msvd", **kwargs: Any) -> None:
        super().__init__(root=root, **kwargs)

    @property
    def next_step(self) -> str:
        return "\n     ".join(
            [
                f"Put MSVD into {self.root} (another folder: --data.root=FOLDER), or run",
                "`centerclip data download msvd`:",
                "  train_list.txt, val_list.txt, test_list.txt and raw-captions.pkl, from",
                "    https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msvd_data.zip",
                "  YouTubeClips/*.avi, from",
                "    https://www.cs.utexas.edu/users/ml/clamp/videoDescription/YouTubeClips.tar",
                "Both may be unpacked there as they are.",
            ]
        )

    def protocol(self, split: str) -> str:
        """``"msvd-multi-caption"`` for test, ``"msvd-val"`` and ``"msvd-train"`` for the others."""
        is_test = split == "test" or (split == "val" and self.select_on_test)
        return "msvd-multi-caption" if is_test else f"msvd-{split}"

    def tables(self) -> dict[str, pd.DataFrame]:
        annotations = Annotations(self.root, _ANNOTATION_FOLDERS, self.next_step)
        lists = {split: annotations.require(f"{split}_list.txt") for split in SPLITS}
        source = annotations.require("raw-captions.pkl")
        published = read_pickled_captions(source, annotations.anew(source))
        captions = {name: [text for text in texts if text] for name, texts in published.items()}
        with_words = {name for name, texts in captions.items() if texts}
        files = VideoFiles(self.video_root, _VIDEO_FOLDERS)
        tables = {}
        for split, file in lists.items():
            ids = annotations.names(file)
            annotations.require_captions(file, ids, with_words, source)
            if blank := sum(len(published[name]) - len(captions[name]) for name in ids):
                _log.warning("%s: %d captions of the %s split have no words and are left out", source, blank, split)
            paths = {name: files.path([name], f"{name}.avi") for name in ids}
            rows = [
                {"video_id": name, "path": path, "caption": caption}
                for name, path in paths.items()
                for caption in captions[name]
            ]
            tables[split] = caption_table(rows, source, allow_repeats=True)  # has repeats, as published
        return tables
