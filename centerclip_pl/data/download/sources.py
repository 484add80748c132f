"""Where the datasets come from: what their owners offer by a direct link, and what they want to be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from centerclip_pl.data.video_files import SUFFIXES

Part = Literal["annotations", "videos"]
PARTS: tuple[Part, ...] = ("annotations", "videos")

_TABLES = (".csv", ".json", ".txt", ".pkl")
_VIDEOS = tuple(suffix for suffix in SUFFIXES if suffix != ".")
_CLIP4CLIP = "https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0"
_DIDEMO = "https://raw.githubusercontent.com/LisaAnne/LocalizingMoments/master/data"
_COLLABORATIVE_EXPERTS = "https://raw.githubusercontent.com/albanie/collaborative-experts/master/misc/datasets"


@dataclass(frozen=True)
class Source:
    """One file that can be fetched without asking anybody.

    No sizes are kept here: the server says them. A hash is given where one is published; elsewhere that of the first
    download is kept and compared from then on.
    """

    part: Part
    url: str
    gives: tuple[str, ...] = ()
    """The annotation files in it; of videos, the dataset knows the names."""
    suffixes: tuple[str, ...] = ()
    """Endings of the files to unpack; the rest of an archive is left out."""
    digest: str | None = None

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked."""
        return self.file.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


@dataclass(frozen=True)
class Step:
    """What the user has to do for some parts of a dataset; ``{root}`` stands for its folder."""

    parts: tuple[Part, ...]
    text: str


SOURCES: dict[str, tuple[Source, ...]] = {
    "msrvtt": (
        Source(
            "annotations",
            f"{_CLIP4CLIP}/msrvtt_data.zip",
            ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv", "MSRVTT_JSFUSION_test.csv", "MSRVTT_data.json"),
            _TABLES,
        ),
        # Also holds folders of lists and features that are not used here.
        Source("videos", "https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip", suffixes=_VIDEOS),
    ),
    "msvd": (
        Source(
            "annotations",
            f"{_CLIP4CLIP}/msvd_data.zip",
            ("train_list.txt", "val_list.txt", "test_list.txt", "raw-captions.pkl"),
            _TABLES,
        ),
        Source(
            "videos",
            "https://www.cs.utexas.edu/users/ml/clamp/videoDescription/YouTubeClips.tar",
            suffixes=_VIDEOS,
            # As ALPRO's README has it (https://github.com/salesforce/ALPRO), and several others after it.
            digest="md5:9bdb20fcf14d59524a6febca9f6a8d89",
        ),
    ),
    "lsmdc": (),
    "activitynet": (
        Source(
            "annotations",
            "https://cs.stanford.edu/people/ranjaykrishna/densevid/captions.zip",
            ("train_ids.json", "val_ids.json", "train.json", "val_1.json"),
            _TABLES,
        ),
    ),
    "didemo": (
        *(Source("annotations", f"{_DIDEMO}/{name}", (name,)) for name in ("train_data.json", "val_data.json")),
        Source("annotations", f"{_DIDEMO}/test_data.json", ("test_data.json",)),
        *(
            Source("annotations", f"{_COLLABORATIVE_EXPERTS}/didemo/{split}_list.txt", (f"{split}_list.txt",))
            for split in ("train", "val", "test")
        ),
    ),
}
"""By the name of the dataset."""

STEPS: dict[str, tuple[Step, ...]] = {
    "lsmdc": (
        Step(
            ("annotations", "videos"),
            "LSMDC is given by the Max Planck Institute for Informatics (MPII) to those who sign an agreement:\n"
            "1. Ask for it as https://sites.google.com/site/describingmovies/download says; you get a user name and a\n"
            "   password. Do not pass them on.\n"
            "2. Put LSMDC16_annos_training.csv, LSMDC16_annos_val.csv and LSMDC16_challenge_1000_publictect.csv into\n"
            "   {root}\n"
            "3. Put the clips, a folder for each film, into\n"
            "   {root}/videos",
        ),
    ),
    "activitynet": (
        Step(
            ("videos",),
            "ActivityNet gives its videos to those who ask for them:\n"
            "1. Fill in the form that http://activity-net.org/download.html leads to.\n"
            "2. Put the videos of the training and the validation set (release 1.3, which adds to 1.2) into\n"
            "   {root}/videos\n"
            "   under the names that they have: v_ID.mp4, or another ending.",
        ),
    ),
    "didemo": (
        Step(
            ("videos",),
            "DiDeMo's videos are a part of YFCC100M, fetched one by one by a script of the dataset's owners:\n"
            "1. git clone https://github.com/LisaAnne/LocalizingMoments, and see `Getting the Videos` in its README.\n"
            "2. download/download_videos_AWS.py --download --video_directory {root}/videos\n"
            "   It is written for Python 2, is run from the repository's folder, and stops at a `pdb.set_trace()`,\n"
            "   which is to be deleted.\n"
            "3. 13 videos that are not there are in\n"
            "   https://people.eecs.berkeley.edu/~lisa_anne/didemo/data/missing_videos/missing_videos_AWS.zip",
        ),
    ),
}
"""By the name of the dataset; what is in no step and no source, a dataset does not need."""
