"""ActivityNet Captions (Krishna et al., ICCV 2017), for retrieval of videos by paragraphs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from centerclip_pl.data.annotations import Annotations, paragraph
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.video_files import VideoFiles, split_suffix
from centerclip_pl.errors import DataError

_VIDEO_FOLDERS = ("videos", "Activity_Videos", "v1-2", "v1-3")
_ANNOTATION_FOLDERS = (".", "annotations", "captions")
_FILES = {"train": ("train_ids.json", "train.json"), "test": ("val_ids.json", "val_1.json")}
_SILENT = 0.01  # the share of ids without captions is 0.15 % in train_ids.json and 0.18 % in val_ids.json


class ActivityNet(RetrievalDataModule):
    """ActivityNet Captions with all sentences of a video joined to one paragraph, in their order.

    The 4,917 paragraphs of ``val_1.json`` are the test, as in all published comparisons; training is on ``train.json``.
    The lists of ids are longer: 4,926 ids in ``val_ids.json`` and 10,024 in ``train_ids.json``, of which 9 and 15 have
    no captions. Those are in no split; more than one in a hundred of them is an error. There is no further split
    for validation: ``val_videos`` (500) of the training videos are held out, unless ``select_on_test`` repeats what the
    published systems do.

    ``root`` holds, as published and unpacked::

        train_ids.json  val_ids.json  train.json  val_1.json
        videos/v_uqiMw7tQ1Cc.mp4 ...

    The annotations may also lie in ``annotations/`` or ``captions/``, the videos in ``Activity_Videos/``, ``v1-2/``,
    ``v1-3/`` or anywhere below ``root``, with any of the usual endings, and with ``v_`` before the id or not. Where
    files have other names, a ``video_path.json`` beside the annotations says so: ``{"uqiMw7tQ1Cc": "some_name.avi"}``,
    ids without ``v_``.

    Args:
        root: the folder above.
        **kwargs: see :class:`~centerclip_pl.data.datamodule.RetrievalDataModule`. The published figures of CenterCLIP
            take ``num_frames=60`` and ``max_words=77``.
    """

    name = "activitynet"

    def __init__(self, root: str = "data/activitynet", **kwargs: Any) -> None:
        super().__init__(root=root, **kwargs)

    @property
    def next_step(self) -> str:
        return "\n     ".join(
            [
                f"Put ActivityNet into {self.root} (another folder: --data.root=FOLDER):",
                "  train_ids.json, val_ids.json, train.json and val_1.json, from",
                "    https://cs.stanford.edu/people/ranjaykrishna/densevid/captions.zip",
                "    or by `centerclip data download activitynet`",
                "  videos/v_ID.mp4 of both the training and the validation set; ask ActivityNet for them:",
                "    http://activity-net.org/download.html",
            ]
        )

    def protocol(self, split: str) -> str:
        """``"activitynet-val1-paragraph"`` for test; held-out videos are compared with nothing but themselves."""
        if split == "test" or (split == "val" and self.select_on_test):
            return "activitynet-val1-paragraph"
        return f"activitynet-{'held-out' if split == 'val' else split}-paragraph"

    def tables(self) -> dict[str, pd.DataFrame]:
        annotations = Annotations(self.root, _ANNOTATION_FOLDERS, self.next_step)
        found = {split: tuple(map(annotations.require, names)) for split, names in _FILES.items()}
        renamed = annotations.find("video_path.json")
        names = {} if renamed is None else annotations.json(renamed, 'of file names: {"id": "file"}', _file_names)
        files = VideoFiles(self.video_root, _VIDEO_FOLDERS)
        tables = {}
        for split, (list_file, captions_file) in found.items():
            ids = annotations.json(list_file, 'with a list of ids: ["v_...", ...]', _ids)
            captions = annotations.json(
                captions_file, 'of captions: {"v_...": {"sentences": ["...", ...]}}', _paragraphs
            )
            _require_most(annotations, list_file, ids, captions, captions_file)
            rows = [
                {"video_id": name, "path": _path(files, name, names), "caption": captions[name]}
                for name in ids
                if name in captions
            ]
            tables[split] = caption_table(rows, captions_file)
        return tables


def _require_most(annotations: Annotations, file: Path, ids: list[str], captions: dict[str, str], source: Path) -> None:
    silent = [name for name in ids if name not in captions]
    if len(silent) > max(1, _SILENT * len(ids)):
        raise DataError(
            f"{file}: {len(silent):,} of {len(ids):,} videos have no caption in {source.name}, e.g. "
            f"{', '.join(silent[:3])}; as published it is one in 500",
            f"use the {source.name} that belongs to this list: {annotations.anew(source)}",
        )
    if empty := [name for name in ids if captions.get(name) == ""]:
        raise DataError(
            f"{source}: no words for {', '.join(empty[:3])} ({len(empty)} in all)", annotations.anew(source)
        )


def _path(files: VideoFiles, name: str, names: dict[str, str]) -> str:
    bare = name.removeprefix("v_")
    other = names.get(bare)
    known = [] if other is None else [other, split_suffix(other)[0]]
    return files.path([*known, name, bare], other or f"{name}.mp4")


def _ids(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name.strip() for name in value):
        raise TypeError("not a list of names")
    name, count = Counter(value).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{name} comes twice")
    return value


def _file_names(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(file, str) for file in value.values()):
        raise TypeError("not a file name for each id")
    return {name.removeprefix("v_"): PurePosixPath(file).name for name, file in value.items()}


def _paragraphs(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        raise TypeError("not a value for each id")
    texts = {}
    for name, about in value.items():
        if not isinstance(about, dict) or not isinstance(about.get("sentences"), list):
            raise TypeError(f"no list of sentences for {name}")
        texts[name] = paragraph(about["sentences"])
    return texts
