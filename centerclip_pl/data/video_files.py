"""Which file is which video, found by one look at each folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from centerclip_pl.data.annotations import unreadable
from centerclip_pl.data.prepared_index import SETTINGS_FILE

SUFFIXES = (
    *(".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"),
    *(".3gp", ".3g2", ".mts", ".m2ts", "."),  # some names of DiDeMo end in a dot
)
"""Endings of video files, in capitals or not; in the order of preference where a folder holds one video twice."""


class VideoFiles:
    """The video files below some folders, by name, with or without what follows the name.

    Each folder is listed once, with all its subfolders; no file is asked for by itself, which takes minutes for a
    hundred thousand of them on a network file system. Where one name has several files, the earlier folder counts, then
    the earlier ending of ``SUFFIXES``, then the path in the order of the alphabet. Hidden files and folders are passed
    over, and so are folders of prepared videos below `root`.

    Args:
        root: the folder of the dataset.
        folders: where below it the videos may lie, first choice first. Where none of them holds a video, all of `root`
            is looked through.

    Raises:
        DataError: a folder cannot be read.
    """

    def __init__(self, root: Path, folders: Sequence[str]) -> None:
        self._ranks: dict[str, tuple[int, int, int, str]] = {}
        self._seen: set[str] = set()
        self.folder = root / folders[0]
        """The first folder that holds a video, or the first of all; missing videos are expected there."""
        for order, folder in enumerate(folders):
            before = len(self._ranks)
            self._look_through(root / folder, order)
            if before == 0 and self._ranks:
                self.folder = root / folder
        if not self._ranks:
            self._look_through(root, len(folders))

    def path(self, names: Sequence[str], otherwise: str) -> str:
        """The file of a video.

        Args:
            names: what the file may be called, first choice first; an ending may follow each of them.
            otherwise: the path below :attr:`folder` to expect the file at, where there is none.
        """
        for name in names:
            if name in self._ranks:
                return self._ranks[name][-1]
        return str(self.folder / otherwise)

    def _look_through(self, folder: Path, order: int) -> None:
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            real = os.path.realpath(here)
            if real in self._seen or not (here != folder or here.is_dir()):
                continue
            self._seen.add(real)
            try:
                with os.scandir(here) as found:
                    entries = list(found)
            except OSError as error:
                raise unreadable(here, error) from error
            if here != folder and any(entry.name == SETTINGS_FILE for entry in entries):
                continue  # prepared videos are taken where they are asked for
            waiting += [Path(below) for entry in entries if (below := self._take(entry, order))]

    def _take(self, entry: os.DirEntry[str], order: int) -> str | None:
        """Note a video file; give back a folder, which is to be looked through as well."""
        if entry.name.startswith("."):
            return None
        stem, suffix = split_suffix(entry.name)
        # Links to videos are not followed: each would be one more question to the file system.
        if entry.is_dir(follow_symlinks=not suffix):
            return entry.path
        if suffix:
            path, kind = os.path.normpath(entry.path), SUFFIXES.index(suffix)
            names = [entry.name, stem]
            if (shorter := split_suffix(stem)[0]) != stem:  # `clip.avi.mp4`, as prepared videos are called
                names.append(shorter)
            for inexact, name in enumerate(names):
                rank = (inexact, order, kind, path)
                self._ranks[name] = min(rank, self._ranks.get(name, rank))
        return None


def split_suffix(name: str) -> tuple[str, str]:
    """A file's name and its ending of ``SUFFIXES``, in small letters; no other dot parts a name.

    >>> split_suffix("0001_American_Beauty_00.00.51.926-00.00.54.129.AVI")
    ('0001_American_Beauty_00.00.51.926-00.00.54.129', '.avi')
    >>> split_suffix("0001_American_Beauty_00.00.51.926-00.00.54.129")
    ('0001_American_Beauty_00.00.51.926-00.00.54.129', '')
    """
    stem, dot, ending = name.rpartition(".")
    suffix = dot + ending.lower()
    return (stem, suffix) if stem and suffix in SUFFIXES else (name, "")
