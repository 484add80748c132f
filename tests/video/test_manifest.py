from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.video.manifest import (
    Clip,
    ClipCheck,
    VideoCheck,
    Wanted,
    load_clips,
    load_manifest,
    manifest_paths,
    save_clips,
    save_manifest,
    write_beside,
)


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    inside, outside = str(tmp_path / "root" / "ä b.mp4"), str(tmp_path / "elsewhere.mp4")
    entries = {
        inside: VideoCheck(inside, 10, 1_700_000_000_123_456_789, 24, 12.0, 2.0, 64, 48),
        outside: VideoCheck(outside, 5, 7, problem="was not decoded within 2 s", timeout=2.0),
    }
    save_manifest(tmp_path / "root", entries)
    assert load_manifest(tmp_path / "root") == entries
    table = pd.read_parquet(manifest_paths(tmp_path / "root")[0])
    assert table["path"].tolist() == ["ä b.mp4", outside]


def test_clips_come_back_as_they_were(tmp_path: Path) -> None:
    path = str(tmp_path / "a.mp4")
    checks = {}
    for clip in (Clip(path), Clip(path, 0.0, None), Clip(path, None, 2.5), Clip(path, 1.5, 2.5)):
        for wanted in (Wanted(12), Wanted(12, 1.0), Wanted(4, None, "tail")):
            checks[clip, wanted] = ClipCheck(clip, wanted, 10, 7, "is damaged" if clip.start else None)
    save_clips(tmp_path, checks)
    assert load_clips(tmp_path) == checks


def test_a_verdict_holds_for_the_same_file_and_no_more_time() -> None:
    check = ClipCheck(Clip("a"), Wanted(4), 10, 7, "was not decoded within 2 s", 2.0)
    assert check.still_holds(10, 7, 2.0)
    assert not check.still_holds(10, 7, 3.0)
    assert not check.still_holds(11, 7, 2.0)
    assert not check.still_holds(10, 8, 2.0)


def test_damaged_clips_are_found_out_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = manifest_paths(tmp_path, "clips.parquet")[0]
    file.parent.mkdir()
    file.write_bytes(b"PAR1 and no more")
    assert load_clips(tmp_path) == {}
    assert "made anew" in caplog.text


def test_what_lies_beside_the_data_is_believed_over_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "root"
    path = str(root / "a.mp4")
    root.mkdir()
    blocked = root / ".centerclip"
    blocked.write_text("a file where the folder should be; unlike permissions, root obeys this")
    save_manifest(root, {path: VideoCheck(path, 1, 1)})
    assert load_manifest(root)[path].size == 1
    blocked.unlink()
    save_manifest(root, {path: VideoCheck(path, 2, 2)})
    assert load_manifest(root)[path].size == 2


def test_a_file_that_can_be_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    (tmp_path / ".centerclip").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert write_beside(tmp_path, "x.csv", lambda part: part.write_text("x")) is None
