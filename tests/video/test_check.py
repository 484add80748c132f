from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.video import check as check_module
from centerclip_pl.video.check import Child, check_videos
from centerclip_pl.video.manifest import load_manifest, manifest_paths

MakeVideo = Callable[..., Path]


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called: from now on no checking process may start."""

    def refuse(self: Child, path: str, timeout: float) -> None:
        raise AssertionError(f"{path} is checked again")

    return lambda: monkeypatch.setattr(Child, "ask", refuse)


def test_good_and_bad_files(tmp_path: Path, make_video: MakeVideo, broken_videos: dict[str, Path]) -> None:
    good = [
        make_video(tmp_path / "normal.mp4", 30, size=(80, 40), fps=15),
        make_video(tmp_path / "one.mp4", 1),
        make_video(tmp_path / "hidden.mp4", 40, shift=10, gop=99),
    ]
    results = check_videos([*good, *broken_videos.values(), good[0]], tmp_path, progress=False)
    assert list(results) == [str(path) for path in [*good, *broken_videos.values()]]
    normal, one, hidden = (results[str(path)] for path in good)
    assert normal.problem is one.problem is hidden.problem is None
    assert (normal.num_frames, normal.width, normal.height) == (30, 80, 40)
    assert normal.fps == pytest.approx(15)
    assert normal.duration == pytest.approx(2.0, abs=0.01)
    assert (normal.size, normal.mtime_ns) == (good[0].stat().st_size, good[0].stat().st_mtime_ns)
    assert one.num_frames == 1
    assert hidden.num_frames == 30
    expected = {
        "missing": "does not exist",
        "empty": "is empty",
        "text": "is not a video",
        "audio": "audio only",
        "no_index": "moov",
        "cut": "cut off",
        "damaged": "damaged",
    }
    for kind, path in broken_videos.items():
        problem = results[str(path)].problem
        assert problem is not None, kind
        assert expected[kind] in problem
        assert results[str(path)].missing == (kind == "missing")


def test_a_second_run_checks_nothing_again(
    tmp_path: Path, make_video: MakeVideo, broken_videos: dict[str, Path], no_process: Callable[[], None]
) -> None:
    paths = [make_video(tmp_path / "a.mp4", 5), broken_videos["text"], broken_videos["missing"]]
    first = check_videos(paths, tmp_path, progress=False)
    assert manifest_paths(tmp_path)[0].is_file()
    no_process()
    assert check_videos(paths, tmp_path, progress=False) == first


def test_a_relative_root_and_a_moved_dataset_keep_their_manifest(
    tmp_path: Path, make_video: MakeVideo, no_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    make_video(tmp_path / "old" / "a.mp4", 5)
    check_videos([tmp_path / "old" / "a.mp4"], tmp_path / "old", progress=False)
    (tmp_path / "old").rename(tmp_path / "new")
    no_process()
    monkeypatch.chdir(tmp_path)
    results = check_videos(["new/a.mp4"], "./new", progress=False)
    assert results["new/a.mp4"].problem is None
    assert results["new/a.mp4"].path == "new/a.mp4"


def test_changed_and_new_files_are_checked(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "a.mp4", 5)
    absent = tmp_path / "b.mp4"
    before = check_videos([path, absent], tmp_path, progress=False)
    assert before[str(absent)].missing
    make_video(absent, 3)
    path.write_text("no video any more")
    after = check_videos([path, absent], tmp_path, progress=False)
    assert after[str(path)].problem == "is not a video"
    assert after[str(absent)].num_frames == 3


def test_other_entries_of_the_manifest_stay(tmp_path: Path, make_video: MakeVideo) -> None:
    a, b = make_video(tmp_path / "a.mp4", 5), make_video(tmp_path / "b.mp4", 6)
    check_videos([a], tmp_path, progress=False)
    check_videos([b], tmp_path, progress=False)
    assert {Path(path).name for path in load_manifest(tmp_path)} == {"a.mp4", "b.mp4"}


def test_a_manifest_that_cannot_be_read_is_made_anew(
    tmp_path: Path, make_video: MakeVideo, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path / "a.mp4", 5)
    manifest = manifest_paths(tmp_path)[0]
    manifest.parent.mkdir()
    manifest.write_text("not parquet")
    assert check_videos([path], tmp_path, progress=False)[str(path)].problem is None
    assert "made anew" in caplog.text
    assert len(pd.read_parquet(manifest)) == 1
    assert os.listdir(manifest.parent) == ["checked.parquet"]  # no temporary file is left behind


def test_where_the_data_cannot_be_written_the_user_cache_is_used(
    tmp_path: Path, make_video: MakeVideo, no_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    (root / ".centerclip").write_text("a file where the folder should be; unlike permissions, root obeys this")
    path = make_video(root / "a.mp4", 5)
    first = check_videos([path], root, progress=False)
    assert (tmp_path / "cache").is_dir()
    no_process()
    assert check_videos([path], root, progress=False) == first


STUB = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    path = os.path.basename(json.loads(line))
    if "hang" in path:
        time.sleep(60)
    if "crash" in path:
        os.abort()
    print(json.dumps({"problem": None, "num_frames": 7}), flush=True)
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checking process that hangs on files called "hang" and dies on files called "crash"."""
    file = tmp_path / "stub.py"
    file.write_text(STUB)
    monkeypatch.setattr(check_module, "_WORKER", (sys.executable, str(file)))
    return file


def test_a_decoder_that_hangs_or_dies_costs_one_file(tmp_path: Path, stub: Path) -> None:
    names = ["a", "hang1", "b", "crash1", "c", "hang2", "d"]
    for name in names:
        (tmp_path / name).write_text("x")
    begin = time.monotonic()
    results = check_videos([tmp_path / name for name in names], tmp_path, timeout=0.5, workers=2, progress=False)
    assert time.monotonic() - begin < 20
    problems = {Path(path).name: result.problem for path, result in results.items()}
    assert [name for name in names if problems[name] is None] == ["a", "b", "c", "d"]
    assert problems["hang1"] == problems["hang2"] == "was not decoded within 0.5 s"
    assert "crashes the decoder" in str(problems["crash1"])


def test_a_file_that_took_too_long_is_tried_again_with_more_time(
    tmp_path: Path, stub: Path, no_process: Callable[[], None]
) -> None:
    (tmp_path / "hang").write_text("x")
    check_videos([tmp_path / "hang"], tmp_path, timeout=0.2, progress=False)
    no_process()
    assert check_videos([tmp_path / "hang"], tmp_path, timeout=0.1, progress=False)[str(tmp_path / "hang")].problem
    with pytest.raises(AssertionError, match="checked again"):
        check_videos([tmp_path / "hang"], tmp_path, timeout=5, progress=False)


def test_a_process_that_cannot_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "_WORKER", (sys.executable, "-c", 'print(\'{"fatal": "no decord"}\')'))
    (tmp_path / "a").write_text("x")
    with pytest.raises(RuntimeError, match="cannot start: no decord"):
        check_videos([tmp_path / "a"], tmp_path, progress=False)


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check_timeout=0"):
        check_videos([], tmp_path, timeout=0)
    with pytest.raises(ConfigError, match="workers=0"):
        check_videos([], tmp_path, workers=0)


def test_works_in_a_script_without_main_guard_and_without_torch_in_the_children(
    tmp_path: Path, make_video: MakeVideo
) -> None:
    path = make_video(tmp_path / "a.mp4", 5)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        from centerclip_pl.video.check import check_videos
        print("once")
        print(check_videos([{str(path)!r}], {str(tmp_path)!r}, progress=False)[{str(path)!r}].num_frames)
        """)
    )
    package = str(Path(check_module.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": package}
    )
    assert run.stdout.split() == ["once", "5"], run.stderr
    imported = "import sys, centerclip_pl.video.check_worker; print('torch' in sys.modules, 'pandas' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", imported], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": package}
    )
    assert run.stdout.split() == ["False", "False"], run.stderr
