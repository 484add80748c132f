"""DiDeMo (Hendricks et al., ICCV 2017), for retrieval of videos by paragraphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from centerclip_pl.data.annotations import Annotations, paragraph
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.splits import SPLITS
from centerclip_pl.data.video_files import VideoFiles, split_suffix
from centerclip_pl.errors import DataError

_VIDEO_FOLDERS = ("videos", "DiDeMo_Videos", "video")
_ANNOTATION_FOLDERS = (".", "annotations", "data", "didemo_data")


class DiDeMo(RetrievalDataModule):
    """DiDeMo with all descriptions of a video joined to one paragraph, in the order of the file.

    The descriptions are about moments of a video; the paragraph is about all of it, as in all published comparisons.
    The lists choose the videos: 8,392, 1,065 and 1,004. Described videos that are in no list are not used.

    ``root`` holds, as published and unpacked::

        train_data.json  val_data.json  test_data.json  train_list.txt  val_list.txt  test_list.txt
        videos/35034348999@N01_6060447507_dc1a90b8ef.mov ...

    The annotations may also lie in ``annotations/``, ``data/`` or ``didemo_data/``, the videos in ``DiDeMo_Videos/``,
    ``video/`` or anywhere below ``root``. Files may have the published name, the name with ``.mp4`` behind it (as the
    copies in YFCC100M have), or another usual ending in place of its own. Lists may name videos in each of these ways.

    Args:
        root: the folder above.
        **kwargs: see :class:`~centerclip_pl.data.datamodule.RetrievalDataModule`.
    """

    name = "didemo"

    def __init__(self, root: str = "data/didemo", **kwargs: Any) -> None:
        super().__init__(root=root, **kwargs)

    @property
    def next_step(self) -> str:
        return "\n     ".join(
            [
                f"Put DiDeMo into {self.root} (another folder: --data.root=FOLDER):",
                "  train_data.json, val_data.json and test_data.json, from",
                "    https://github.com/LisaAnne/LocalizingMoments/tree/master/data",
                "    or by `centerclip data download didemo`",
                "  train_list.txt, val_list.txt and test_list.txt, from",
                "    https://github.com/albanie/collaborative-experts/tree/master/misc/datasets/didemo",
                "  videos/*, which https://github.com/LisaAnne/LocalizingMoments says how to download",
            ]
        )

    def protocol(self, split: str) -> str:
        """``"didemo-test-paragraph"`` for test, ``"didemo-val-paragraph"`` and ``"didemo-train-paragraph"``."""
        is_test = split == "test" or (split == "val" and self.select_on_test)
        return f"didemo-{'test' if is_test else split}-paragraph"

    def tables(self) -> dict[str, pd.DataFrame]:
        annotations = Annotations(self.root, _ANNOTATION_FOLDERS, self.next_step)
        found = {
            split: (annotations.require(f"{split}_list.txt"), annotations.require(f"{split}_data.json"))
            for split in SPLITS
        }
        files = VideoFiles(self.video_root, _VIDEO_FOLDERS)
        tables = {}
        for split, (list_file, source) in found.items():
            texts: dict[str, str] = annotations.json(
                source, 'with a list of descriptions: [{"video": "...", "description": "..."}, ...]', _paragraphs
            )
            listed = annotations.names(list_file)
            known = _by_variants(texts)
            annotations.require_captions(list_file, listed, known, source)
            names = [known[name] for name in listed]
            _require_once(list_file, listed, names)
            rows = [
                {
                    "video_id": name,
                    "path": files.path([name, split_suffix(name)[0]], name),
                    "caption": texts[name],
                }
                for name in names
            ]
            tables[split] = caption_table(rows, source)
        return tables


def _paragraphs(value: Any) -> dict[str, str]:
    if not isinstance(value, list) or not value:
        raise TypeError("not a list of descriptions")
    sentences: dict[str, list[str]] = {}
    for place, about in enumerate(value, start=1):
        if not isinstance(about, dict):
            raise TypeError(f"description {place} is not an object")
        name, text = about["video"], about["description"]
        if not isinstance(name, str) or not isinstance(text, str) or not name.strip():
            raise TypeError(f"description {place} has no texts for video and description")
        sentences.setdefault(name.strip(), []).append(text)
    return {name: text for name, texts in sentences.items() if (text := paragraph(texts))}


def _by_variants(names: dict[str, str]) -> dict[str, str]:
    """Each way in which a list may call a described video, and the name by which it is described.

    Exact names count before those with ``.mp4`` behind them, and these before names without their ending; an ending is
    left out only where one video alone is called so.
    """
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(split_suffix(name)[0], []).append(name)
    variants = {stem: same[0] for stem, same in stems.items() if len(same) == 1}
    variants |= {f"{stem}.mp4": name for stem, name in variants.items()}
    variants |= {f"{name}.mp4": name for name in names}
    return variants | {name: name for name in names}


def _require_once(file: Path, listed: list[str], names: list[str]) -> None:
    seen: dict[str, str] = {}
    for called, name in zip(listed, names, strict=True):
        if name in seen:
            raise DataError(f"{file}: {seen[name]} and {called} are the same video", "delete one of the lines")
        seen[name] = called
