"""LSMDC (Rohrbach et al., IJCV 2017): clips of films, with the 1,000 clips of its 2016 challenge as the test."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from centerclip_pl.data.annotations import Annotations
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.video_files import VideoFiles
from centerclip_pl.errors import DataError

_VIDEO_FOLDERS = ("videos", "LSMDC_Videos", "avi", "clips")
_ANNOTATION_FOLDERS = (".", "annotations", "lsmdc_data")
_FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
_COLUMNS = 6  # clip, start and end as aligned, start and end as extracted, sentence
_SPAN = re.compile(r"_\d+\.\d+\.\d+\.\d+-\d+\.\d+\.\d+\.\d+$")


class LSMDC(RetrievalDataModule):
    """LSMDC as of 2016: 1,000 test clips with one sentence each, and validation and training clips of other films.

    The annotations are lines of six fields between tabs, without a header: the clip, four times and the sentence. The
    times are counted from the beginning of the film; each clip is a file of its own and is used whole. A clip may come
    in several lines of the training and validation files, which are several captions of it.

    ``root`` holds, as published and unpacked::

        LSMDC16_annos_training.csv  LSMDC16_annos_val.csv  LSMDC16_challenge_1000_publictect.csv
        videos/0001_American_Beauty/0001_American_Beauty_00.00.51.926-00.00.54.129.avi ...

    The annotations may also lie in ``annotations/`` or ``lsmdc_data/``, the clips in ``LSMDC_Videos/``, ``avi/``,
    ``clips/`` or anywhere below ``root``, with any of the usual endings, in a folder for each film or not.

    Args:
        root: the folder above.
        **kwargs: see :class:`~centerclip_pl.data.datamodule.RetrievalDataModule`. The published figures train with
            ``captions_per_video="all"``.
    """

    name = "lsmdc"

    def __init__(self, root: str = "data/lsmdc", **kwargs: Any) -> None:
        super().__init__(root=root, **kwargs)

    @property
    def next_step(self) -> str:
        return "\n     ".join(
            [
                f"Put LSMDC into {self.root} (another folder: --data.root=FOLDER). The Max Planck Institute for",
                "Informatics (MPII) gives it to those who sign for it, with a user name and a password:",
                "    https://sites.google.com/site/describingmovies/download",
                "  LSMDC16_annos_training.csv, LSMDC16_annos_val.csv and LSMDC16_challenge_1000_publictect.csv",
                "  videos/FILM/CLIP.avi, a folder for each film, e.g. videos/0001_American_Beauty/...",
            ]
        )

    def protocol(self, split: str) -> str:
        """``"lsmdc-1000"`` for test, ``"lsmdc-val"`` and ``"lsmdc-train"`` for the others."""
        is_test = split == "test" or (split == "val" and self.select_on_test)
        return "lsmdc-1000" if is_test else f"lsmdc-{split}"

    def tables(self) -> dict[str, pd.DataFrame]:
        annotations = Annotations(self.root, _ANNOTATION_FOLDERS, self.next_step)
        found = {split: annotations.require(name) for split, name in _FILES.items()}
        files = VideoFiles(self.video_root, _VIDEO_FOLDERS)
        tables = {}
        for split, file in found.items():
            rows, lines = [], []
            for number, line in annotations.lines(file):
                fields = line.split("\t")
                if len(fields) != _COLUMNS:
                    raise DataError(
                        f"{file}, line {number}: {len(fields)} fields between tabs, not {_COLUMNS}: {line[:60]!r}",
                        annotations.anew(file),
                    )
                clip, sentence = fields[0].strip(), fields[-1]
                path = files.path([clip], f"{film_of(clip)}/{clip}.avi")
                rows.append({"video_id": clip, "path": path, "caption": sentence})
                lines.append(number)
            if split == "test":
                annotations.require_unique(file, (row["video_id"] for row in rows), lines)
            tables[split] = caption_table(rows, file, lines=lines, allow_repeats=split != "test")
        return tables


def film_of(clip: str) -> str:
    """The film of a clip: its id without the time span at its end.

    >>> film_of("0001_American_Beauty_00.00.51.926-00.00.54.129")
    '0001_American_Beauty'
    """
    return _SPAN.sub("", clip)
