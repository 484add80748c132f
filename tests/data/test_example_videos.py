from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from centerclip_pl.data.example_videos import example_videos
from centerclip_pl.errors import DataError
from centerclip_pl.video.clips import read_clip


def test_what_the_user_names(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    files = [make_video(folder / f"clip{n}.mp4", 4) for n in range(6)]
    (folder / "notes.txt").write_text("no video")
    scratch = tmp_path / "scratch"
    assert example_videos(files[2], 9, scratch=scratch) == [files[2]]
    assert example_videos(folder, 9, scratch=scratch) == files
    assert example_videos(folder, 3, scratch=scratch) == files[::2]
    assert not scratch.exists()


def test_the_demo_where_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "demo/videos").mkdir(parents=True)
    for name in ("test00001", "test00000", "train00000"):
        (tmp_path / f"demo/videos/{name}.mp4").touch()
    found = example_videos(None, 5, demo=tmp_path / "demo", scratch=tmp_path / "scratch")
    assert [path.stem for path in found] == ["test00000", "test00001"]


def test_videos_of_its_kind_otherwise(tmp_path: Path) -> None:
    found = example_videos(None, 2, demo=tmp_path / "absent", scratch=tmp_path / "scratch")
    again = example_videos(None, 2, demo=tmp_path / "absent", scratch=tmp_path / "again")
    assert len(found) == 2
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in again]
    clip = read_clip(found[0], 8, 64)
    assert clip.frames.shape == (8, 3, 64, 64)
    assert clip.frames.dtype == torch.uint8
    assert clip.available >= 8


def test_a_short_clip_repeats_its_last_frame(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    clip = read_clip(make_video(tmp_path / "short.mp4", 3, color_fn=lambda i: (80 * i, 0, 0)), 5, 32)
    assert clip.available == 3
    assert torch.equal(clip.frames[2], clip.frames[4])
    assert not torch.equal(clip.frames[1], clip.frames[2])


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, count, says in (
        (tmp_path / "absent", 3, "absent: there is no such file or folder"),
        (tmp_path / "empty", 3, "empty holds no video"),
        (None, 0, "0 videos"),
    ):
        with pytest.raises(DataError, match=says):
            example_videos(source, count, scratch=tmp_path / "scratch")
