"""MSR-VTT (Xu et al., CVPR 2016), with the splits by which retrieval is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.errors import ConfigError, DataError

_VIDEO_FOLDERS = ("videos", "videos/all", "MSRVTT/videos/all", ".")
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
    ``MSRVTT/videos/all/``, as the archives unpack them.

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
                f"MSR-VTT is not downloaded for you. Put into {self.root} (another folder: --data.root=FOLDER):",
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
        folder = self._video_folder()

        def path(video_id: str) -> str:
            return str(folder / f"{video_id}.mp4")

        train_file, train = self._read_csv(f"MSRVTT_train.{self.training_split}.csv", ["video_id"])
        test_file, test = self._read_csv("MSRVTT_JSFUSION_test.csv", ["video_id", "sentence"])
        captions = self._captions()
        silent = [video_id for video_id in train["video_id"] if video_id not in captions]
        if silent:
            raise DataError(
                f"{train_file}: {len(silent)} of {len(train)} videos have no caption in MSRVTT_data.json, "
                f"e.g. {', '.join(silent[:3])}",
                "use the MSRVTT_data.json that belongs to these lists; the one from the first training release has "
                "fewer videos",
            )
        rows = [
            {"video_id": video_id, "path": path(video_id), "caption": caption}
            for video_id in dict.fromkeys(train["video_id"])
            for caption in captions[video_id]
        ]
        test_rows = pd.DataFrame({"video_id": test["video_id"], "caption": test["sentence"]})
        test_rows["path"] = [path(video_id) for video_id in test_rows["video_id"]]
        return {
            "train": caption_table(
                rows, self._find("MSRVTT_data.json"), allow_repeats=True
            ),  # has repeats, as published
            "test": caption_table(test_rows, test_file, lines=range(2, len(test) + 2)),
        }

    def _find(self, file: str) -> Path:
        for folder in _ANNOTATION_FOLDERS:
            if (found := self.root / folder / file).is_file():
                return found
        raise DataError(f"{self.root / file} does not exist", self.next_step)

    def _video_folder(self) -> Path:
        for folder in _VIDEO_FOLDERS:
            if next((self.root / folder).glob("video*.mp4"), None) is not None:
                return self.root / folder
        raise DataError(f"{self.root / _VIDEO_FOLDERS[0]} holds no video*.mp4", self.next_step)

    def _read_csv(self, name: str, columns: list[str]) -> tuple[Path, pd.DataFrame]:
        file = self._find(name)
        try:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
        except OSError as error:
            raise _unreadable(file, error) from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read as CSV: {error}", self.next_step) from error
        absent = [column for column in columns if column not in table.columns]
        if absent:
            raise DataError(
                f"{file} has no column {', '.join(absent)}; it has {', '.join(table.columns)}", self.next_step
            )
        return file, table

    def _captions(self) -> dict[str, list[str]]:
        file = self._find("MSRVTT_data.json")
        captions: dict[str, list[str]] = {}
        try:
            with file.open(encoding="utf-8") as stream:
                for sentence in json.load(stream)["sentences"]:
                    captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
        except OSError as error:
            raise _unreadable(file, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{file} is not the JSON file with "videos" and "sentences" ({type(error).__name__}: {error})',
                self.next_step,
            ) from error
        return captions


def _unreadable(file: Path, error: OSError) -> DataError:
    return DataError(
        f"{file} cannot be read: {error.strerror or error}",
        "look at its permissions, and at the disk or share it is on",
    )
