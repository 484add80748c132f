"""The demo dataset as a datamodule: generated on first use."""

from __future__ import annotations

from typing import Any

import pandas as pd

from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.demo.generate import generate, is_complete
from centerclip_pl.errors import ConfigError, DataError


class Demo(RetrievalDataModule):
    """Generated videos of shapes that move, change and meet, with captions: the whole path without a download.

    Every test caption fits one test video alone. About 15 % of each split are pairs of videos that show the same frames
    in opposite order; captions of these carry the tag ``order``.

    Args:
        root: folder to generate into, or to find an earlier generation in.
        train: number of training videos.
        val: number of validation videos.
        test: number of test videos.
        world_seed: of the generated scenes and captions (not of the training).
        **kwargs: see `RetrievalDataModule`.
    """

    name = "demo"

    def __init__(
        self,
        root: str = "data/demo",
        train: int = 2000,
        val: int = 200,
        test: int = 200,
        world_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, **kwargs)
        for option, value in (("train", train), ("val", val), ("test", test)):
            if value < 2:
                raise ConfigError(f"{option}={value}: must be at least 2")
        self.sizes = {"train": train, "val": val, "test": test}
        self.world_seed = world_seed

    @property
    def next_step(self) -> str:
        return f"remove {self.root} and run again, which generates it anew (about half a minute)"

    def protocol(self, split: str) -> str:
        """``"demo-200"`` for the default test split: figures on another number of videos are not comparable."""
        if split == "test":
            return f"demo-{self.sizes['test']}"
        return f"demo-{split}-{self.sizes[split]}"

    def ensure_files(self) -> None:
        """Generates the dataset unless it is there.

        Raises:
            DataError: if the folder holds something else.
        """
        if not is_complete(self.root, self.world_seed, **self.sizes):
            generate(self.root, self.world_seed, **self.sizes)

    def tables(self) -> dict[str, pd.DataFrame]:
        file = self.root / "captions.csv"
        try:
            rows = pd.read_csv(file, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: cannot be read: {error}", self.next_step) from error
        rows["path"] = [str(self.root / name) for name in rows["file"]]
        columns = ["video_id", "path", "caption", "tag"]
        return {split: caption_table(rows.loc[rows["split"] == split, columns], source=file) for split in self.sizes}
