"""Which file is found for which name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.data.video_files import SUFFIXES, VideoFiles, split_suffix
from centerclip_pl.errors import DataError


def test_a_link_to_an_ending_is_no_folder(tmp_path: Path) -> None:
    """Videos that are links are common on clusters; a folder of frames may be called like a video."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").write_bytes(b"x")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "videos" / "b.mp4").mkdir()
    (tmp_path / "videos" / "b.mp4" / "c.mp4").write_bytes(b"x")
    (tmp_path / "videos" / "again").symlink_to(tmp_path / "videos", target_is_directory=True)
    files = VideoFiles(tmp_path, ["videos"])
    assert files.path(["a"], "-") == str(tmp_path / "videos" / "a.mp4")
    assert files.path(["b"], "b.avi") == str(tmp_path / "videos" / "b.avi")
    assert files.path(["c"], "-") == str(tmp_path / "videos" / "b.mp4" / "c.mp4")


def test_which_of_several_files_counts(tmp_path: Path) -> None:
    for path in ("second/x.mp4", "first/x.webm", "first/sub/x.avi", "second/y.MOV", "first/.z.mp4", "second/y.mov.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    files = VideoFiles(tmp_path, ["none", "first", "second"])
    assert files.path(["x"], "-") == str(tmp_path / "first" / "sub" / "x.avi")
    assert files.path(["x.webm"], "-") == str(tmp_path / "first" / "x.webm")
    assert files.path(["q", "y"], "-") == str(tmp_path / "second" / "y.MOV")
    assert files.path(["y.mov"], "-") == str(tmp_path / "second" / "y.mov.mp4")
    assert files.path([".z", "z"], "z.mp4") == str(tmp_path / "first" / "z.mp4")
    assert files.folder == tmp_path / "first"


def test_folders_are_listed_once_and_files_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for film in range(3):
        (tmp_path / "videos" / f"film{film}").mkdir(parents=True)
        for k in range(50):
            (tmp_path / "videos" / f"film{film}" / f"{film}_{k}.avi").touch()
    listed: list[str] = []
    asked: list[str] = []
    scandir, stat = os.scandir, os.stat
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scandir(path))[1])
    monkeypatch.setattr(os, "stat", lambda path, **more: (asked.append(str(path)), stat(path, **more))[1])
    files = VideoFiles(tmp_path, ["videos", "videos/film1", "."])
    assert files.path(["2_49"], "-").endswith("2_49.avi")
    monkeypatch.undo()
    assert len(listed) == 5  # root, videos, three films
    assert not [path for path in asked if path.endswith(".avi")]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()

    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"videos cannot be read: Permission denied"):
        VideoFiles(tmp_path, ["videos"])


@given(st.text("ab._-@1", min_size=1, max_size=12), st.sampled_from(SUFFIXES))
def test_an_ending_is_taken_off_once(stem: str, suffix: str) -> None:
    assert split_suffix(stem + suffix) == (stem, suffix)
    assert split_suffix(stem + suffix.upper()) == (stem, suffix)
