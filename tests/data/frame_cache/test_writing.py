"""A cache is whole or it is none, whatever happens while it is written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.frame_cache import FrameCache
from centerclip_pl.data.frame_cache.state import begin, locked
from centerclip_pl.data.frame_cache.writing import Plan, write_cache
from centerclip_pl.data.unwritable import cannot_write
from centerclip_pl.errors import ConfigError, DataError, VideoError

MakeVideo = Callable[..., Path]
IDS = ["a", "b", "c0", "c1", "c2"]


def same(source: Any, folder: Path) -> None:
    cache = FrameCache(folder)
    for video_id in IDS:
        assert torch.equal(cache.read(video_id, range), source.frames(video_id)), video_id


def test_what_is_announced_and_returned(source: Any, tmp_path: Path) -> None:
    plans: list[Plan] = []
    written = source.write(tmp_path / "out", announce=plans.append)
    frames = 24 + 30 + 12 + 16 + 12
    assert (plans[0].clips, plans[0].todo) == (5, 5)
    assert abs(plans[0].frames - frames) <= 3
    assert (written.clips, written.new, written.frames, written.bad) == (5, 5, frames, [])
    assert written.size <= 1.02 * plans[0].size
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name.split("-")[0] for name in files] == ["cache.json", "clips", "frames", "writing"]
    facts = json.loads((tmp_path / "out/cache.json").read_text())
    assert facts["counts"] == {"clips": 5, "frames": frames, "problems": 0}
    assert facts["splits"] == {"train": 3, "test": 3}
    assert facts["versions"]["torch"] == torch.__version__


def test_two_processes_write_the_same_frames(source: Any, tmp_path: Path) -> None:
    source.write(tmp_path / "out", jobs=2)
    same(source, tmp_path / "out")


def test_a_second_call_writes_nothing_and_splits_add_up(source: Any, tmp_path: Path) -> None:
    first = source.write(tmp_path / "out", tables={"test": source.tables["test"]})
    reader = FrameCache(tmp_path / "out")
    assert len(reader.clips) == 3
    both = source.write(tmp_path / "out")
    again = source.write(tmp_path / "out")
    assert (first.new, both.new, again.new) == (3, 2, 0)
    assert torch.equal(reader.read("c1", range), source.frames("c1"))  # opened before the second call
    same(source, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("frames-*")) == [
        "frames-00000.arrow",
        "frames-00001.arrow",
    ]


# What ends the process by SIGKILL in the middle: the third file of all that are flushed to the disk, for instance.
_KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from centerclip_pl.data.frame_cache import shards, state, writing
tables, root, out, settings, at = pickle.loads(sys.stdin.buffer.read())
calls = []
def to_disk(path):
    calls.append(path)
    if len(calls) == at:
        os.kill(os.getpid(), signal.SIGKILL)
shards.to_disk = state.to_disk = to_disk
writing._MB = 30_000
writing.write_cache(tables, root, out, settings, size_mb=1, jobs=1)
"""


@pytest.mark.parametrize("at", [1, 4, 10])
def test_killed_while_writing_the_next_call_goes_on(source: Any, tmp_path: Path, at: int) -> None:
    """Each clip is a shard: flushed are shard, its rows, shard, its rows, ..., and 11th the table, 12th cache.json."""
    import pickle

    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED],
        input=pickle.dumps((source.tables, source.root, out, source.settings(), at)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with pytest.raises(DataError, match="is not a complete frame cache"):
        _ = FrameCache(out).clips
    written = source.write(out)
    assert written.new == 5 - (at - 1) // 2
    same(source, out)
    assert not list(out.glob(".*.part"))


def test_a_failure_before_the_last_file_leaves_no_cache(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from centerclip_pl.data.frame_cache import state

    def full(path: Path) -> None:
        if "cache.json" in path.name:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state, "to_disk", full)
        with pytest.raises(DataError, match=r"cannot be written: No space left on device"):
            source.write(tmp_path / "out")
    with pytest.raises(DataError, match="is not a complete frame cache"):
        _ = FrameCache(tmp_path / "out").clips
    assert source.write(tmp_path / "out").new == 0
    same(source, tmp_path / "out")


# A limit on the size of files makes the system refuse a write in the middle of a shard, as a full disk does.
_FULL = """
import pickle, resource, sys
from centerclip_pl.data.frame_cache.writing import write_cache
from centerclip_pl.errors import DataError
tables, root, out, settings = pickle.loads(sys.stdin.buffer.read())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_cache(tables, root, out, settings, jobs=1)
except DataError as error:
    print(error)
    sys.exit(7)
"""


def test_a_write_that_the_system_refuses_leaves_nothing_half_written(source: Any, tmp_path: Path) -> None:
    import pickle

    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", _FULL],
        input=pickle.dumps((source.tables, source.root, out, source.settings())),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 7, done.stderr.decode()
    assert "cannot be written: " in done.stdout.decode()
    assert "the same command again" in done.stdout.decode()
    assert sorted(path.name for path in out.iterdir()) == ["writing"]
    source.write(out)
    same(source, out)


def test_too_little_room_is_refused_before_anything_is_decoded(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(DataError, match=r"about 3\d\d\.\d kB are to be written, and the disk has 1\.0 kB") as caught:
        source.write(tmp_path / "out")
    assert "--encoding=jpeg" in str(caught.value.next_step)
    assert not list((tmp_path / "out").glob("*frames*"))
    monkeypatch.undo()
    source.write(tmp_path / "out", encoding="jpeg")  # the folder is not bound to what was refused
    assert FrameCache(tmp_path / "out").settings.encoding == "jpeg"


def test_what_ended_before_the_first_shard_binds_nothing(source: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out, source.settings()):
        begin(out, source.settings())
        (out / ".frames-00000.arrow.77.part").write_bytes(b"half")
    source.write(out, encoding="jpeg")
    assert FrameCache(out).settings.encoding == "jpeg"
    assert not list(out.glob(".*.part"))


def test_finished_shards_bind_their_settings(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("centerclip_pl.data.frame_cache.state.clips_parquet", fail)
        with pytest.raises(OSError, match="No space"):
            source.write(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"encoding=raw \(now jpeg\)"):
        source.write(tmp_path / "out", encoding="jpeg")
    assert source.write(tmp_path / "out").new == 0


def test_another_source_is_refused(source: Any, cache_folder: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in cache_folder.glob("*.*"))
    with pytest.raises(ConfigError, match=r"source=published \(now prepared with --fps=3\)"):
        source.write(cache_folder, source="prepared with --fps=3")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in cache_folder.glob("*.*")) == before


@pytest.mark.parametrize("damage", ["cut", "missing", "byte"])
def test_the_same_command_mends_a_shard(source: Any, cache_folder: Path, tmp_path: Path, damage: str) -> None:
    out = Path(shutil.copytree(cache_folder, tmp_path / "out"))
    shard = out / "frames-00000.arrow"
    content = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    with pytest.raises(DataError, match="frames-00000") as caught:
        same(source, out)
    step = str(caught.value.next_step)
    assert "the `centerclip data cache` command that wrote it again" in step
    assert ("--verify" in step) == (damage == "byte")
    if damage == "byte":
        assert source.write(out).new == 0
        assert source.write(out, verify=True).new == 1
    else:
        assert source.write(out).new == {"missing": 5, "cut": 4}[damage]
    same(source, out)
    assert source.write(out, verify=True).new == 0


@pytest.mark.parametrize(
    ("number", "text", "room"),
    [(28, "No space left on device", True), (122, "Disk quota exceeded", True), (30, "Read-only file system", False)],
)
def test_room_is_asked_for_only_where_it_is_missing(tmp_path: Path, number: int, text: str, room: bool) -> None:
    for error in (OSError(number, text), text):
        found = cannot_write(tmp_path, error, "what is done is kept")
        assert f"cannot be written: {text}" in found.problem
        assert ("make room" in str(found.next_step)) == room
        assert "with --out" in str(found.next_step)


def test_a_folder_where_nothing_can_be_made(source: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot be written: Not a directory") as caught:
        source.write(tmp_path / "file" / "out")
    assert "room" not in str(caught.value.next_step)


def test_other_settings_are_refused(source: Any, cache_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"image_size=32 \(now 64\), encoding=raw \(now jpeg\)"):
        source.write(cache_folder, image_size=64, encoding="jpeg")
    with pytest.raises(ConfigError, match=r"dataset=tiny \(now other\)"):
        source.write(cache_folder, dataset="other")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="files that are no frame cache"):
        source.write(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        source.write(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_one_writer_at_a_time(source: Any, tmp_path: Path) -> None:
    with locked(tmp_path / "out", source.settings()):
        with pytest.raises(ConfigError, match="another process writes"):
            source.write(tmp_path / "out")


@pytest.mark.parametrize(("option", "value"), [("size_mb", 0), ("jobs", 0)])
def test_numbers_that_cannot_be_are_refused(source: Any, tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{option}=0") as caught:
        source.write(tmp_path / "out", **{option: value})
    assert "leave it out" in str(caught.value.next_step)


def test_readers_read_while_a_cache_grows(source: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source.write(out, tables={"test": source.tables["test"]})
    expected = {video_id: source.frames(video_id) for video_id in ("c1", "c2")}
    stop, wrong, rounds = threading.Event(), list[str](), list[int]()

    def read() -> None:
        while not stop.is_set():
            cache = FrameCache(out)
            wrong.extend(key for key, frames in expected.items() if not torch.equal(cache.read(key, range), frames))
            rounds.append(1)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        source.write(out)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(rounds) > 2
    same(source, out)


# Videos that cannot be used.


def rows_of(paths: dict[str, Path]) -> dict[str, pd.DataFrame]:
    return {
        "train": caption_table(
            [{"video_id": name, "path": str(path), "caption": "w1"} for name, path in paths.items()], "x"
        )
    }


@pytest.fixture
def some_bad(tmp_path: Path, make_video: MakeVideo, broken_videos: dict[str, Path]) -> dict[str, pd.DataFrame]:
    """A good file, one that is missing, and one that only decoding it whole tells from a good one."""
    root = tmp_path / "root"
    root.mkdir()
    good = make_video(root / "good.mp4", 24)
    shutil.copy(broken_videos["empty"], root / "empty.mp4")
    return rows_of({"good": good, "empty": root / "empty.mp4", "missing": root / "missing.mp4"})


def test_bad_videos_end_it_with_a_list(source: Any, some_bad: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 3 videos cannot be used \(1 missing, 1 broken\)"):
        write_cache(some_bad, tmp_path / "root", tmp_path / "out", source.settings(), jobs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("policy", ["drop", "resample"])
def test_bad_videos_are_listed_where_that_is_wanted(
    source: Any, some_bad: dict[str, pd.DataFrame], tmp_path: Path, policy: str
) -> None:
    options: dict[str, Any] = {"on_bad_video": policy, "jobs": 1}
    written = write_cache(some_bad, tmp_path / "root", tmp_path / "out", source.settings(), **options)
    assert [video["video_id"] for video in written.bad] == ["empty", "missing"]
    cache = FrameCache(tmp_path / "out")
    clips = cache.clips.set_index("video_id")
    assert clips["problem"].to_dict() == {"good": None, "empty": "is empty (0 bytes)", "missing": "does not exist"}
    assert clips["frames"].tolist() == [24, 0, 0]
    assert clips["path"].tolist() == ["good.mp4", "empty.mp4", "missing.mp4"]
    with pytest.raises(VideoError, match=r"empty.mp4: is empty \(0 bytes\) \(found when"):
        cache.read("empty", range)
    again = write_cache(some_bad, tmp_path / "root", tmp_path / "out", source.settings(), **options)
    assert (again.new, len(again.bad)) == (0, 2)


def test_a_source_that_appears_or_changes_is_written(
    source: Any, some_bad: dict[str, pd.DataFrame], tmp_path: Path, make_video: MakeVideo
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    options: dict[str, Any] = {"on_bad_video": "drop", "jobs": 1}
    write_cache(some_bad, root, out, source.settings(), **options)
    make_video(root / "missing.mp4", 12)
    make_video(root / "good.mp4", 30, color_fn=lambda k: (200, k, 0))
    written = write_cache(some_bad, root, out, source.settings(), **options)
    assert (written.new, [video["video_id"] for video in written.bad]) == (2, ["empty"])
    frames = FrameCache(out).read("good", range)
    assert frames.shape[0] == 30
    assert abs(int(frames[0, 0].float().mean()) - 200) < 6
    assert len(FrameCache(out).read("missing", range)) == 12


@pytest.mark.parametrize("hangs", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_decoder_that_hangs_or_crashes_takes_nothing_with_it(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    from centerclip_pl.data.frame_cache import decoding

    program = tmp_path / "worker.py"
    what = "time.sleep(600)" if hangs else "os.abort()"
    program.write_text(
        "import os, sys, time\n"
        "from centerclip_pl.data.frame_cache import worker\n"
        "decode = worker.frames_of\n"
        "def frames_of(request):\n"
        f"    if 'b.mp4' in request.path:\n        {what}\n"
        "    return decode(request)\n"
        "worker.frames_of = frames_of\n"
        "worker.main()\n"
    )
    monkeypatch.setattr(decoding, "_WORKER", (sys.executable, str(program)))
    options: dict[str, Any] = {"check_timeout": 2.0}
    with pytest.raises(DataError, match="1 of 5 videos cannot be used") as caught:
        source.write(tmp_path / "out", **options)
    assert ("was not decoded within 4.5 s" if hangs else "crashes the decoder") in caught.value.problem
    with pytest.raises(DataError, match="is not a complete frame cache"):
        _ = FrameCache(tmp_path / "out").clips
    monkeypatch.undo()
    assert source.write(tmp_path / "out").new == 1  # what was decoded stays
    same(source, tmp_path / "out")
