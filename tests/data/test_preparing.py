from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from centerclip_pl.data import preparing
from centerclip_pl.data.prepared_index import PreparedFolder, prepared_with
from centerclip_pl.data.preparing import Prepared, prepare_videos, prepared_path
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.video.decode import decode
from centerclip_pl.video.transcode import Settings

MakeVideo = Callable[..., Path]
SMALL = Settings(fps=3, size=32, crf=20)
PACKAGE = str(Path(preparing.__file__).parents[2])


def prepare(root: Path, out: Path, **options: object) -> Prepared:
    """All files of the folder's ``videos``."""
    paths = sorted(str(path) for path in (root / "videos").rglob("*.*"))
    return prepare_videos(paths, root, out, **{"settings": SMALL, "progress": False, **options})


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.mp4"))}


def parts(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.name.endswith(".part")]


@pytest.fixture
def root(tmp_path: Path, make_video: MakeVideo) -> Path:
    """A dataset of four videos, one in a folder of its own and one that is no MP4."""
    videos = tmp_path / "root" / "videos"
    (videos / "deep").mkdir(parents=True)
    make_video(videos / "a.mp4", 12)
    make_video(videos / "b.avi", 20, codec="mpeg4")
    make_video(videos / "deep" / "a.mp4", 28)
    make_video(videos / "ein Hündchen % #1.mkv", 8)
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/d/v/a.mp4", "/o/v/a.mp4"),
        ("/d/v/a.avi", "/o/v/a.avi.mp4"),
        ("/d/x/../v/a.mp4", "/o/v/a.mp4"),
        ("/d/name.", "/o/name..mp4"),
        ("/d2/a.mp4", "/o/_outside/6febd5e2622e003d/a.mp4"),
        ("/d/../d2/a.mp4", "/o/_outside/6febd5e2622e003d/a.mp4"),
        ("/o/v/a.avi.mp4", "/o/v/a.avi.mp4"),
    ],
)
def test_where_a_file_lies(path: str, expected: str) -> None:
    assert prepared_path(Path("/o"), Path("/d"), path) == Path(expected)


def test_relative_and_nested_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepared_path(Path("d/p"), Path("d"), "d/v/a.mp4") == Path("d/p/v/a.mp4")
    assert prepared_path(Path("d/p"), tmp_path / "d", "d/v/a.mp4") == Path("d/p/v/a.mp4")
    assert prepared_path(Path("d/p"), Path("d"), str(tmp_path / "d/p/v/a.mp4")) == Path("d/p/v/a.mp4")


def test_asking_where_a_file_lies_imports_nothing_heavy() -> None:
    code = "import sys, centerclip_pl.data.preparing; print({'torch', 'av', 'pandas', 'numpy'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PACKAGE}
    )
    assert run.stdout.strip() == "set()", run.stderr


def test_a_second_call_does_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*.*")}
    assert prepare(root, out) == Prepared(4, 0, {})
    assert list(files(out)) == [
        "videos/a.mp4",
        "videos/b.avi.mp4",
        "videos/deep/a.mp4",
        "videos/ein Hündchen % #1.mkv.mp4",
    ]
    greys = decode(out / "videos/b.avi.mp4", range).frames.mean(axis=(1, 2, 3)) / 4
    assert np.rint(greys).astype(int).tolist() == [0, 4, 8, 12, 16]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*.*")} == before
    monkeypatch.setattr(preparing, "_WORKER", ("/no/such/program",))
    assert prepare(root, out) == Prepared(0, 4, {})


def test_parallel_equals_serial(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "one", jobs=1)
    prepare(root, tmp_path / "three", jobs=3)
    assert files(tmp_path / "one") == files(tmp_path / "three")


def test_what_changed_is_done_again(root: Path, tmp_path: Path, make_video: MakeVideo) -> None:
    out = tmp_path / "out"
    prepare(root, out)
    make_video(root / "videos" / "a.mp4", 24)
    (out / "videos" / "b.avi.mp4").unlink()
    (out / "videos" / "deep" / "a.mp4").write_bytes(b"cut")
    assert prepare(root, out) == Prepared(3, 1, {})
    assert decode(out / "videos" / "a.mp4", lambda n: [0]).info.num_frames == 6
    assert prepare(root, out) == Prepared(0, 4, {})


def test_the_large_files_may_be_removed(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = [str(root / "videos" / "a.mp4"), str(root / "videos" / "b.avi")]
    prepare_videos(paths[:1], root, out, SMALL, progress=False)
    shutil.rmtree(root)
    assert prepare_videos(paths, root, out, SMALL, progress=False) == Prepared(0, 1, {paths[1]: "does not exist"})


def test_bad_videos_do_not_keep_the_others_back(root: Path, tmp_path: Path, broken_videos: dict[str, Path]) -> None:
    out = tmp_path / "out"
    paths = [*map(str, broken_videos.values()), str(root / "videos" / "a.mp4")]
    prepared = prepare_videos([*paths, *paths], root, out, SMALL, progress=False)
    assert (prepared.new, prepared.kept) == (1, 0)
    assert list(prepared.problems) == paths[:-1]
    expected = ["does not exist", "empty", "not a video", "audio only", "moov", "cut off", "damaged"]
    for reason, words in zip(prepared.problems.values(), expected, strict=True):
        assert words in reason
    assert list(files(out)) == ["videos/a.mp4"]
    assert parts(out) == []


def test_other_settings_are_refused_or_overwrite(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(root, out)
    with pytest.raises(ConfigError, match=r"--fps=3 --size=32 --crf=20, not with --fps=3 --size=48 --crf=20") as error:
        prepare(root, out, settings=SMALL._replace(size=48))
    assert "--overwrite" in str(error.value)
    assert prepare(root, out) == Prepared(0, 4, {})
    assert prepare(root, out, settings=SMALL._replace(size=48), overwrite=True) == Prepared(4, 0, {})
    assert decode(out / "videos" / "a.mp4", lambda n: [0]).info.height == 48
    assert prepare(root, out, settings=SMALL._replace(size=48)) == Prepared(0, 4, {})


def test_no_file_of_others_is_overwritten(root: Path, tmp_path: Path) -> None:
    before = files(root)
    for out in (root / "videos", root, tmp_path):
        with pytest.raises(DataError, match="lies in"):
            prepare(root, out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"not empty and holds no prepared videos \(e\.g\. notes\.txt\)"):
        prepare(root, tmp_path / "other")
    assert files(tmp_path / "other") == {}
    assert files(root) == before
    prepare(root, root / "prepared")
    with pytest.raises(DataError, match="lies in"):
        prepare_videos([str(root / "prepared/videos/a.mp4")], root, root / "prepared", SMALL, progress=False)
    shutil.copy(root / "videos" / "b.avi", root / "videos" / "b.avi.mp4")
    with pytest.raises(DataError, match=r"b\.avi and .*b\.avi\.mp4 would both become"):
        prepare(root, tmp_path / "out")


def test_one_process_at_a_time(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with PreparedFolder(out, SMALL._asdict()):
        with pytest.raises(ConfigError, match="another process is preparing"):
            prepare(root, out)
    assert prepare(root, out).new == 4


SCRIPT = """
import resource, sys
from pathlib import Path
from centerclip_pl.data.preparing import prepare_videos
from centerclip_pl.errors import DataError
from centerclip_pl.video.transcode import Settings
root, out, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    paths = sorted(map(str, (root / "videos").rglob("*.*")))
    print(prepare_videos(paths, root, out, Settings(3, 32, 20), jobs=2, progress=False).new)
except DataError as error:
    print(error)
"""


def command(tmp_path: Path, root: Path, out: Path, limit: int = 0) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    return [sys.executable, str(script), str(root), str(out), str(limit)]


@pytest.mark.parametrize("whole_group", [True, False])
def test_killed_in_the_middle(tmp_path: Path, make_video: MakeVideo, whole_group: bool) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "videos").mkdir(parents=True)
    make_video(root / "videos" / "v00.mp4", 240, size=(160, 120))
    for k in range(1, 40):
        shutil.copy(root / "videos" / "v00.mp4", root / "videos" / f"v{k:02}.mp4")
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    process = subprocess.Popen(command(tmp_path, root, out), env=environment, start_new_session=True)
    try:
        index = out / "index.jsonl"
        deadline = time.monotonic() + 60
        while not index.exists() or index.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    done = index.read_bytes().count(b"\n")
    assert 3 <= done < 40
    with index.open("ab") as file:  # what a power cut may leave behind
        file.write(b'{"video": "videos/v39.mp4", "si')
    (out / "videos" / ".v39.mp4.123.part").write_bytes(b"half")
    kept_since = (out / json.loads(index.read_text().splitlines()[0])["video"]).stat().st_mtime_ns
    prepared = prepare(root, out)
    assert (prepared.new, prepared.kept) == (40 - done, done)
    assert (out / json.loads(index.read_text().splitlines()[0])["video"]).stat().st_mtime_ns == kept_since
    assert parts(out) == []
    assert len(set(files(out).values())) == 1  # all sources are the same, and so are all results
    assert prepare(root, out) == Prepared(0, 40, {})


def test_a_full_disk_ends_the_work_and_leaves_nothing_half(tmp_path: Path, make_video: MakeVideo) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "videos").mkdir(parents=True)
    for k in range(3):
        make_video(root / "videos" / f"a{k}.mp4", 6)
    noise = np.random.default_rng(0)
    make_video(
        root / "videos" / "b.mp4", 96, size=(64, 64), color_fn=lambda _: noise.integers(0, 256, (64, 64, 3), np.uint8)
    )
    for k in range(3):
        make_video(root / "videos" / f"c{k}.mp4", 6)
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    run = subprocess.run(command(tmp_path, root, out, 12_000), env=environment, capture_output=True, text=True)
    assert run.stderr == ""
    assert f"{out} cannot be written: File too large" in run.stdout
    assert "what is done is kept" in run.stdout
    assert "videos/b.mp4" not in files(out)
    assert parts(out) == []
    before = len(files(out))
    prepared = prepare(root, out)
    assert prepared.problems == {}
    assert prepared.new + prepared.kept == 7
    assert 1 <= prepared.kept <= before


def test_little_room_is_said_before_anything_starts(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda _: usage._replace(free=5 * 2**20))
    with pytest.raises(DataError, match="only 5 MiB are free"):
        prepare(root, tmp_path / "out")
    assert files(tmp_path / "out") == {}
    monkeypatch.setattr(preparing, "_LEAST_FREE", 0)
    monkeypatch.setattr(preparing, "_ENOUGH_TO_ESTIMATE", 1)
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert prepare(root, tmp_path / "out").new == 4
    assert "will be needed" in caplog.text


STUB = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    source = os.path.basename(request["source"])
    if "target" in request:
        if "hang" in source:
            head, name = os.path.split(request["target"])
            open(f"{head}/.{name}.{os.getpid()}.part", "w").close()
            time.sleep(60)
        if "crash" in source:
            os.abort()
        with open(request["target"], "w") as file:
            file.write("x")
    print(json.dumps({"problem": None, "duration": 0.2, "num_bytes": 1}), flush=True)
"""


def test_a_decoder_that_hangs_or_dies_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    monkeypatch.setattr(preparing, "_WORKER", (sys.executable, str(stub)))
    (tmp_path / "root" / "videos").mkdir(parents=True)
    for name in ("a", "b.hang", "c", "d.crash", "e"):
        (tmp_path / "root" / "videos" / f"{name}.avi").write_text("x")
    prepared = prepare(tmp_path / "root", tmp_path / "out", jobs=1, timeout=0.4)
    assert (prepared.new, prepared.kept) == (3, 0)
    assert [Path(path).name for path in prepared.problems] == ["b.hang.avi", "d.crash.avi"]
    reasons = list(prepared.problems.values())
    assert "within 0.6 s" in reasons[0]  # 0.4 beyond the 0.2 that it plays
    assert "crashes the decoder" in reasons[1]
    assert parts(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"jobs": 0}, "jobs=0"),
        ({"timeout": 0}, "timeout=0"),
        ({"settings": SMALL._replace(fps=-1)}, "fps=-1"),
        ({"settings": SMALL._replace(size=35)}, "size=35"),
    ],
)
def test_bad_options(root: Path, tmp_path: Path, options: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        prepare(root, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written: (Not a directory|File exists)"):
        prepare(root, tmp_path / "file" / "out")
    with pytest.raises(ConfigError, match=r"file is a file") as caught:
        prepare(root, tmp_path / "file")
    assert "--out" in str(caught.value.next_step)


def test_a_folder_has_the_videos_of_one_dataset(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(root, out)  # says nothing of its dataset, as a folder of an earlier version
    assert prepare(root, out, dataset="msrvtt") == Prepared(0, 4, {})
    before = files(out)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(ConfigError, match="prepared videos of another dataset: msrvtt, not msvd"):
            prepare(root, out, dataset="msvd", **options)
    assert files(out) == before
    assert prepare(root, out) == Prepared(0, 4, {})
    assert json.loads((out / "prepared.json").read_text())["dataset"] == "msrvtt"
    assert prepared_with(out) == "--fps=3 --size=32 --crf=20"
    assert prepared_with(root) == "unknown options"
