from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.video import check as check_module
from centerclip_pl.video.check import Child, check_clips, check_videos
from centerclip_pl.video.check_worker import examine
from centerclip_pl.video.manifest import Clip, Wanted, load_manifest, manifest_paths

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


def test_wanted_frames_of_files_and_of_parts(
    tmp_path: Path, make_video: MakeVideo, broken_videos: dict[str, Path]
) -> None:
    video = str(make_video(tmp_path / "a.mp4", 24, fps=12))  # 2 s
    damaged = str(broken_videos["damaged"])
    good = [Clip(video), Clip(video, 0.5, 1.5), Clip(video, None, 0.2), Clip(video, 1.0, None)]
    late = Clip(video, 2.5, 3.0)
    bad = [Clip(damaged), Clip(damaged, 0.0, 1.0), Clip(str(broken_videos["missing"]), 0.0, 1.0)]
    files, problems = check_clips([*good, late, *bad, good[0]], tmp_path, Wanted(12), progress=False)
    assert list(files) == [video, damaged, str(broken_videos["missing"])]
    assert files[video].num_frames == 24
    assert [problems[clip] for clip in good] == [None] * 4
    assert "2.5" in str(problems[late])
    assert "damaged" in str(problems[bad[0]])
    assert problems[bad[1]] == problems[bad[0]]
    assert problems[bad[2]] == "does not exist"
    assert check_videos([video, damaged], tmp_path, progress=False)[damaged].problem == problems[bad[0]]


def test_the_frames_that_are_decoded(tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    from centerclip_pl.video import check_worker
    from centerclip_pl.video.decode import decode

    video = str(make_video(tmp_path / "a.mp4", 100, fps=10))  # 10 s
    seen: list[list[int]] = []

    def look(path: str, choose: Callable[[int], list[int]], *args: object, **more: object) -> object:
        def chosen(count: int) -> list[int]:
            seen.append(choose(count))
            return seen[-1]

        return decode(path, chosen, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(check_worker, "decode", look)
    base = {"path": video, "num_frames": 5, "fps": None, "sampling": "uniform"}
    requests = [
        video,
        base,  # of 100: 10, 30, 50, 70, 90, and those of the file
        {**base, "start": 2.0, "end": 4.0},  # of 20: 2, 6, 10, 14, 18
        {**base, "fps": 1.0},  # of 10: 1, 3, 5, 7, 9
        {**base, "sampling": "head", "start": 0.0},
        {**base, "sampling": "tail", "start": 0.0},
        {**base, "start": 9.65},  # 4 frames, all of them
    ]
    assert [examine(request)["problem"] for request in requests] == [None] * len(requests)
    assert seen == [[0, 50, 99], [0, 10, 50, 90, 99], [2, 10, 18], [1, 5, 9], [0, 2, 4], [95, 97, 99], [0, 2, 3]]


def test_clips_that_are_known_are_not_looked_at_again(
    tmp_path: Path, make_video: MakeVideo, no_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    video = make_video(tmp_path / "old" / "a.mp4", 24)
    clips = [Clip("old/a.mp4"), Clip("old/a.mp4", 0.5, None), Clip("old/a.mp4", 9.0, 10.0)]
    monkeypatch.chdir(tmp_path)
    first = check_clips(clips, "old", Wanted(4), progress=False)
    assert first[1][clips[2]] is not None
    (tmp_path / "old").rename(tmp_path / "new")
    moved = [Clip("new/a.mp4", *clip[1:]) for clip in clips]
    asked = Child.ask
    no_process()
    again = check_clips(moved, "new", Wanted(4), progress=False)
    assert list(again[1].values()) == list(first[1].values())
    check_videos(["new/a.mp4"], "new", progress=False)  # training knows the file too
    for changed in (Wanted(5), Wanted(4, 1.0), Wanted(4, None, "tail")):
        with pytest.raises(AssertionError, match="checked again"):
            check_clips(moved, "new", changed, progress=False)
    monkeypatch.setattr(Child, "ask", asked)
    make_video(tmp_path / "new" / "a.mp4", 30, fps=3)
    assert check_clips(moved, "new", Wanted(4), progress=False)[1][moved[2]] is None
    assert not video.exists()


def test_what_is_known_is_kept_when_the_user_interrupts(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [str(make_video(tmp_path / f"{name}.mp4", 5)) for name in "abc"]
    asked = Child.ask

    def ask(self: Child, request: object, timeout: float) -> dict[str, object]:
        if "c.mp4" in str(request):  # what a process that was killed answers
            return {"problem": "crashes the decoder"}
        return asked(self, request, timeout)

    # What the user's Ctrl-C raises in the main thread cannot be sent to it from a test that runs in parallel.
    monkeypatch.setattr(Child, "ask", ask)
    monkeypatch.setattr(check_module, "tqdm", lambda todo, **_: _interrupted(todo, after=2))
    with pytest.raises(KeyboardInterrupt):
        check_clips(map(Clip, videos), tmp_path, Wanted(4), workers=1, progress=False)
    again: list[str] = []
    monkeypatch.setattr(check_module, "tqdm", lambda todo, **_: todo)
    monkeypatch.setattr(
        Child, "ask", lambda self, request, timeout: again.append(request["path"]) or asked(self, request, timeout)
    )
    problems = check_clips(map(Clip, videos), tmp_path, Wanted(4), progress=False)[1]
    assert again == videos[2:]
    assert list(problems.values()) == [None] * 3


def _interrupted(things: Sequence[object], after: int) -> Iterator[object]:
    for number, thing in enumerate(things):
        if number == after:
            raise KeyboardInterrupt
        yield thing


def test_long_checks_are_kept_from_time_to_time(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [make_video(tmp_path / f"{name}.mp4", 5) for name in "abc"]
    kept: list[int] = []
    monkeypatch.setattr(check_module, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(check_module, "save_manifest", lambda root, entries: kept.append(len(entries)))
    check_videos(videos, tmp_path, progress=False)
    assert kept == [1, 2, 3, 3]


STUB = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    path = os.path.basename(request if isinstance(request, str) else request["path"])
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


def test_a_clip_whose_frames_hang_the_decoder(tmp_path: Path, stub: Path) -> None:
    for name in ("a", "hang"):
        (tmp_path / name).write_text("x")
    clips = [Clip(str(tmp_path / name), start, None) for name in ("a", "hang") for start in (None, 1.0)]
    files, problems = check_clips(clips, tmp_path, Wanted(4), timeout=0.5, workers=1, progress=False)
    assert [problems[clip] for clip in clips] == [None, None, *["was not decoded within 0.5 s"] * 2]
    assert files[clips[2].path].timeout == 0.5


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
