from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from centerclip_pl.data import MSRVTT, MSVD, ActivityNet, Custom, Demo, DiDeMo
from centerclip_pl.data import file_manifest as manifest_module
from centerclip_pl.data.expected import Expected, expected_counts
from centerclip_pl.data.file_manifest import known_hashes, read_manifest, write_manifest
from centerclip_pl.data.manifest_comparison import compare
from centerclip_pl.data.verifying import Finding, _others, verify_dataset, write_report
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.video.check import Child, check_videos
from centerclip_pl.video.manifest import manifest_paths

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_data(corpus: Any, tokenizer_folder: str) -> Callable[..., Custom]:
    def make(**options: Any) -> Custom:
        return Custom(str(corpus.captions), tokenizer=tokenizer_folder, num_frames=3, **options)

    return make


def verify(data: Any, **options: Any) -> Any:
    return verify_dataset(data, progress=False, **options)


def test_a_dataset_that_is_whole(make_data: Callable[..., Custom], corpus: Any) -> None:
    found = verify(make_data())
    assert found.is_good
    assert not found.duplicates
    rows = [(s.split, s.listed, s.found, s.missing, s.broken, s.texts, s.expected) for s in found.splits]
    assert rows == [
        ("train", 10, 10, 0, 0, 30, Expected()),
        ("val", 3, 3, 0, 0, 6, Expected()),
        ("test", 4, 4, 0, 0, 10, Expected()),
    ]
    assert [s.protocol for s in found.splits] == [f"custom:captions.csv:{s}" for s in ("train", "val", "test")]
    assert found.num_files == 17
    table = found.manifest.set_index("path")
    file = corpus.root / "train3.mp4"
    row = table.loc["train3.mp4"]
    assert (row["size"], row["num_frames"], row["width"], row["height"]) == (file.stat().st_size, 9, 40, 32)
    assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert row["fps"] == pytest.approx(12)
    assert row["duration"] == pytest.approx(0.75, abs=0.01)
    assert found.manifest_file == manifest_paths(corpus.root, "manifest.parquet")[0]
    pd.testing.assert_frame_equal(read_manifest(found.manifest_file), found.manifest, check_dtype=False)


def test_missing_and_broken_files(
    make_data: Callable[..., Custom], corpus: Any, broken_videos: dict[str, Path]
) -> None:
    (corpus.root / "test1.mp4").unlink()
    for number, kind in enumerate(("empty", "text", "audio", "no_index", "cut", "damaged")):
        shutil.copy(broken_videos[kind], corpus.root / f"train{number}.mp4")
    found = verify(make_data(on_bad_video="drop"))
    assert not found.is_good
    assert {(s.split, s.missing, s.broken) for s in found.splits} == {("train", 0, 6), ("val", 0, 0), ("test", 1, 0)}
    assert [(f.kind, f.split, f.video_id, f.path) for f in found.findings] == [
        *(("broken", "train", f"train{k}.mp4", f"train{k}.mp4") for k in range(6)),
        ("missing", "test", "test1.mp4", "test1.mp4"),
    ]
    assert "audio only" in found.findings[2].detail
    table = found.manifest.set_index("path")
    assert "test1.mp4" not in table.index
    assert table.loc["train1.mp4", "problem"] == "is not a video"
    assert table.loc["train1.mp4", "sha256"] == hashlib.sha256(broken_videos["text"].read_bytes()).hexdigest()


def test_a_part_that_begins_after_the_end(tmp_path: Path, make_video: MakeVideo) -> None:
    make_video(tmp_path / "a.mp4", 24, fps=12)
    lines = ["video,caption,split,start,end", "a.mp4,one,train,0,1", "a.mp4,two,val,1,2", "a.mp4,three,test,3,4"]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    found = verify(Custom(str(tmp_path / "my.csv")))
    assert [(f.kind, f.split, f.video_id, f.path) for f in found.findings] == [("broken", "test", "a.mp4@3-4", "a.mp4")]
    assert found.num_files == 1
    assert found.manifest["problem"].isna().all()  # the file is good


def test_a_decoder_that_hangs(make_data: Callable[..., Custom], corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Child.ask

    def ask(self: Child, request: Any, timeout: float) -> dict[str, Any]:
        if Path(request["path"]).name == "val1.mp4":
            os.kill((self.process or self._start()).pid, 19)  # SIGSTOP: it says nothing any more
        return asked(self, request, timeout)

    monkeypatch.setattr(Child, "ask", ask)
    found = verify(make_data(check_timeout=0.5))
    assert [(f.kind, f.path, f.detail) for f in found.findings] == [
        ("broken", "val1.mp4", "was not decoded within 0.5 s")
    ]


def test_hashes_are_kept_while_files_stay_the_same(
    make_data: Callable[..., Custom], corpus: Any, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = verify(make_data()).manifest
    make_video(corpus.root / "val0.mp4", 8)
    (corpus.root / "val1.mp4").unlink()
    read: list[str] = []
    real = manifest_module._sha256
    monkeypatch.setattr(manifest_module, "_sha256", lambda path: read.append(path) or real(path))
    second = verify(make_data(on_bad_video="drop"))
    assert read == [str(corpus.root / "val0.mp4")]
    both = first.merge(second.manifest, on="path")
    assert both.loc[both["sha256_x"] != both["sha256_y"], "path"].tolist() == ["val0.mp4"]
    kept = read_manifest(second.manifest_file)
    assert "val1.mp4" not in kept["path"].tolist()
    third = verify(make_data(on_bad_video="drop"), hash=False)
    pd.testing.assert_frame_equal(third.manifest, second.manifest)  # what is known costs nothing


def test_without_hashes(make_data: Callable[..., Custom]) -> None:
    found = verify(make_data(), hash=False)
    assert found.is_good
    assert found.manifest["sha256"].isna().all()
    assert (found.manifest["num_frames"] > 0).all()


def test_hashes_are_kept_when_the_user_interrupts(
    make_data: Callable[..., Custom], corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read = manifest_module._sha256, []

    def sha256(path: str) -> str:
        if path.endswith("val2.mp4"):
            raise KeyboardInterrupt
        read.append(path)
        return real(path)

    monkeypatch.setattr(manifest_module, "_sha256", sha256)
    with pytest.raises(KeyboardInterrupt):
        verify(make_data(), jobs=1)
    done = len(read)
    files = check_videos([row["path"] for row in _videos(corpus)], corpus.root, progress=False)
    assert 0 < len(known_hashes(files, corpus.root)) <= done
    kept = known_hashes(files, corpus.root)
    read.clear()
    monkeypatch.setattr(manifest_module, "_sha256", lambda path: read.append(path) or real(path))
    verify(make_data())
    assert set(read) == set(files) - set(kept)


def _videos(corpus: Any) -> list[dict[str, str]]:
    return [{"path": str(file)} for file in sorted(corpus.root.glob("*.mp4"))]


def test_a_file_that_cannot_be_read_to_its_end(
    make_data: Callable[..., Custom], corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = manifest_module._sha256

    def sha256(path: str) -> str:
        if path.endswith("test2.mp4"):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(manifest_module, "_sha256", sha256)
    found = verify(make_data())
    assert [(f.kind, f.path, f.detail) for f in found.findings] == [
        ("broken", "test2.mp4", "cannot be read to its end: Input/output error")
    ]


def test_the_same_content_under_two_names(make_data: Callable[..., Custom], corpus: Any) -> None:
    shutil.copy(corpus.root / "train1.mp4", corpus.root / "train2.mp4")
    shutil.copy(corpus.root / "train5.mp4", corpus.root / "test0.mp4")
    found = verify(make_data())
    assert found.is_good  # a warning
    assert [(f.split, f.path, f.detail) for f in found.duplicates] == [
        ("train", "train5.mp4", "the same content in test and train: test0.mp4 (test)"),
        ("test", "test0.mp4", "the same content in test and train: train5.mp4 (train)"),
        ("train", "train1.mp4", "the same content: train2.mp4 (train)"),
        ("train", "train2.mp4", "the same content: train1.mp4 (train)"),
    ]


def test_many_copies_are_named_in_a_line_each() -> None:
    group = [("train", f"v{k}", f"v{k}.mp4") for k in range(30_000)]
    lines = [_others(group, place) for place in range(len(group))]  # takes minutes if each looks at all
    assert lines[0] == "v1 (train), v2 (train), v3 (train) and 29,996 more"
    assert lines[2] == "v0 (train), v1 (train), v3 (train) and 29,996 more"
    assert lines[-1] == "v0 (train), v1 (train), v2 (train) and 29,996 more"
    assert [_others(group[:4], place) for place in (0, 3)] == [
        "v1 (train), v2 (train), v3 (train)",
        "v0 (train), v1 (train), v2 (train)",
    ]


def test_different_parts_of_a_file_are_no_copies(tmp_path: Path, make_video: MakeVideo) -> None:
    make_video(tmp_path / "a.mp4", 24)
    lines = ["video,caption,split,start,end,video_id", "a.mp4,one,train,0,1,x", "a.mp4,two,val,1,2,y"]
    (tmp_path / "my.csv").write_text("\n".join([*lines, "a.mp4,three,test,0,1,z"]))
    assert [f.video_id for f in verify(Custom(str(tmp_path / "my.csv"))).duplicates] == ["x", "z"]


def test_where_the_data_cannot_be_written(
    make_data: Callable[..., Custom], corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (corpus.root / ".centerclip").write_text("a file where the folder should be; unlike permissions, root obeys this")
    found = verify(make_data())
    assert found.is_good
    assert found.manifest_file is not None
    assert found.manifest_file.is_relative_to(tmp_path / "cache")
    report = write_report(found.findings, corpus.root)
    assert report is not None
    assert report.is_relative_to(tmp_path / "cache")
    monkeypatch.setattr(manifest_module, "_sha256", lambda path: pytest.fail(f"{path} is read again"))
    verify(make_data())


def test_the_report(tmp_path: Path) -> None:
    findings = [Finding("missing", "test", "a, b", "a, b.mp4", 'does not "exist"')]
    file = write_report(findings, tmp_path, tmp_path / "my.csv")
    assert file == tmp_path / "my.csv"
    with file.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [findings[0]._asdict()]
    default = write_report(findings, tmp_path)
    assert default == tmp_path / ".centerclip" / "problems.csv"
    write_report([], tmp_path)
    assert default.read_text() == "kind,split,video_id,path,detail\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_report([], tmp_path, tmp_path / "file" / "my.csv")
    with pytest.raises(DataError, match="cannot be written"):
        write_report([], tmp_path, tmp_path / "new" / "my.csv")
    assert not (tmp_path / "new").exists()


def test_published_counts(tmp_path: Path, write_miniature: Callable[..., Any]) -> None:
    options = write_miniature("msrvtt", tmp_path / "msrvtt")
    found = verify(MSRVTT(str(tmp_path / "msrvtt"), val_videos=int(options["val_videos"])))
    assert [(f.kind, f.split, f.detail) for f in found.findings] == [
        (
            "count",
            "train",
            "8 videos in the annotations, 8,996 expected; 16 texts in the annotations, 179,992 expected "
            "(as published 9,000 less those held out)",
        ),
        ("count", "test", "4 videos in the annotations, 1,000 expected; 4 texts in the annotations, 1,000 expected"),
    ]
    assert [(s.split, s.expected.videos, s.note) for s in found.splits][1] == ("val", None, "held out of train")
    repeated = verify(MSRVTT(str(tmp_path / "msrvtt"), select_on_test=True))
    assert [(s.split, s.expected.videos, s.listed) for s in repeated.splits] == [("train", 9000, 12), ("test", 1000, 4)]


def test_what_is_expected_of_each_dataset() -> None:
    def videos(data: Any) -> dict[str, int | None]:
        return {split: count.videos for split, count in expected_counts(data).items()}

    assert videos(MSRVTT()) == {"train": 9000, "test": 1000}
    assert videos(MSRVTT(training="7k")) == {"train": 7010, "test": 1000}
    assert videos(MSVD()) == {"train": 1200, "val": 100, "test": 670}
    assert videos(ActivityNet()) == {"train": 10009, "test": 4917}
    assert videos(DiDeMo()) == {"val": 1065, "test": 1004}
    assert videos(Demo(train=5, val=4, test=3)) == {"train": 5, "val": 4, "test": 3}
    assert expected_counts(Custom("my.csv")) == {}


def test_the_annotations_as_published_have_the_expected_counts() -> None:
    folder = Path(__file__).parents[3] / "shared" / "annotations"
    if not folder.is_dir():
        pytest.skip("the published annotation files are not here")
    for training in ("9k", "7k"):
        ids = pd.read_csv(folder / "msrvtt" / f"MSRVTT_train.{training}.csv")["video_id"]
        assert len(set(ids)) == expected_counts(MSRVTT(training=training))["train"].videos  # type: ignore[arg-type]
    test = pd.read_csv(folder / "msrvtt" / "MSRVTT_JSFUSION_test.csv")
    assert Expected(test["video_id"].nunique(), len(test)) == expected_counts(MSRVTT())["test"]
    for split, count in expected_counts(MSVD()).items():
        assert len(set((folder / "msvd" / f"{split}_list.txt").read_text().split())) == count.videos


def test_frames_of_a_cache_have_no_files(make_data: Callable[..., Custom]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)video files.*--data\.cache"):
        verify(make_data(cache="somewhere"))
    with pytest.raises(ConfigError, match="workers=0"):
        verify(make_data(), jobs=0)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_manifests_for_others(make_data: Callable[..., Custom], tmp_path: Path, ending: str) -> None:
    found = verify(make_data()).manifest
    file = tmp_path / f"m.{ending}"
    write_manifest(found, file)
    read = read_manifest(file)
    pd.testing.assert_frame_equal(read, found.drop(columns="mtime_ns"), check_dtype=False)
    comparison = compare(found, read)
    assert comparison == (17, [], [], [])


def test_manifests_that_are_none(tmp_path: Path, make_data: Callable[..., Custom]) -> None:
    whole = tmp_path / "whole.csv"
    write_manifest(verify(make_data()).manifest, whole)
    cases = {
        "cut.csv": (whole.read_bytes()[:-30], "row 17 of 17: is not complete"),
        "middle.csv": (whole.read_bytes()[:300], "is not complete"),
        "other.csv": (b"video,caption\na.mp4,a dog\n", "no column path, size"),
        "empty.csv": (b"", "cannot be read"),
        "binary.csv": (bytes(range(128, 256)) * 9, "cannot be read"),
        "text.parquet": (b"a text", "cannot be read"),
        "twice.csv": (whole.read_bytes() + whole.read_bytes().splitlines(True)[1], "test0.mp4 twice"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            read_manifest(tmp_path / name)
        assert name in str(error.value)
    write_manifest(verify(make_data()).manifest, tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-50])
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "cut.parquet")
    with pytest.raises(DataError, match="does not exist"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        read_manifest(tmp_path / "m.txt")


def row(path: str, sha256: str | None = "0" * 64, **facts: Any) -> dict[str, Any]:
    plain = {"size": 10, "num_frames": 30, "fps": 10.0, "duration": 3.0, "width": 64, "height": 48}
    return {"path": path, "sha256": sha256, **plain, **facts}


def test_what_differs_is_named() -> None:
    here = pd.DataFrame(
        [
            row("same.mp4"),
            row("content.mp4"),
            row("cut.mp4", duration=2.0, num_frames=20),
            row("small.mp4", sha256=None, width=32),
            row("size.mp4", sha256=None),
            row("rounded.mp4", duration=3.04),
            row("new.mp4"),
        ]
    )
    there = pd.DataFrame(
        [
            row("same.mp4"),
            row("content.mp4", sha256="1" * 64),
            row("cut.mp4", sha256="1" * 64),
            row("small.mp4"),
            row("size.mp4", size=11),
            row("rounded.mp4"),
            row("old.mp4"),
        ]
    )
    found = compare(here, there)
    assert found.same == 2
    assert found.differing == [
        ("content.mp4", "content"),
        ("cut.mp4", "content; 20 frames, not 30; 2.00 s, not 3.00 s"),
        ("small.mp4", "32x48 pixels, not 64x48"),
        ("size.mp4", "size 10 bytes, not 11"),
    ]
    assert (found.only_here, found.only_there) == (["new.mp4"], ["old.mp4"])


def test_files_that_lie_elsewhere_are_found_by_their_names() -> None:
    here = pd.DataFrame([row("videos/a.mp4"), row("b.mov"), row("x/twice.mp4"), row("y/twice.mp4")])
    there = pd.DataFrame([row("all/a.avi"), row("all/b.mov.mp4", num_frames=9), row("all/twice.mp4")])
    found = compare(here, there)
    assert (found.same, found.differing) == (1, [("b.mov", "30 frames, not 9")])
    assert found.only_here == ["x/twice.mp4", "y/twice.mp4"]  # which of them it is, nobody can tell
    assert found.only_there == ["all/twice.mp4"]
