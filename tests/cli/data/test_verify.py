from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from centerclip_pl.cli import main
from centerclip_pl.cli.data import verify as verify_module

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(dataset, option, ...)``: exit status, standard output and standard error of ``data verify``."""

    def verify(dataset: str, *options: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(["data", "verify", dataset, f"--experiments={EXPERIMENTS}", *options])
        except SystemExit as end:
            status = int(end.code or 0)
        out = capsys.readouterr()
        return status, out.out, out.err

    return verify


@pytest.fixture
def demo(tiny_demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_demo, tmp_path / "demo", ignore=shutil.ignore_patterns(".centerclip")))


def options(root: Path) -> list[str]:
    return [f"--data.root={root}", "--data.train=16", "--data.val=4", "--data.test=14"]


def cells(out: str, split: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [split])


def test_all_is_well(run: Run, demo: Path) -> None:
    status, out, _ = run("demo", *options(demo))
    assert status == 0, out
    assert cells(out, "train") == ["train", "16", "16", "16", "0", "0", "64", "demo-train-16"]
    assert cells(out, "test") == ["test", "14", "14", "14", "0", "0", "14", "demo-14"]
    assert "34 files, all can be used" in out
    assert (demo / ".centerclip" / "manifest.parquet").is_file()
    assert (demo / ".centerclip" / "problems.csv").read_text() == "kind,split,video_id,path,detail\n"


@pytest.mark.parametrize("width", [60, 120])
def test_the_numbers_are_whole_in_a_narrow_terminal(
    width: int, run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "Console", lambda **_: Console(width=width, markup=False, highlight=False))
    _, out, _ = run("demo", *options(demo), "--hash=false")
    assert max(map(len, out.split("manifest:")[0].splitlines())) <= width
    header = ["split", "expected", "listed", "found", "missing", "broken", "texts"]
    assert cells(out, "split")[:7] == header
    assert cells(out, "train")[:7] == ["train", "16", "16", "16", "0", "0", "64"]
    assert "demo-train-16" in out


def test_options_that_are_true_or_false_need_no_value(run: Run, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in (["--hash"], ["--hash=true"], ["--hash", "false"], ["--hash", "--jobs=1"]):
        status, out, _ = run("demo", *options(demo), *flag)
        assert status == 0, out
        kept = pd.read_parquet(demo / ".centerclip" / "manifest.parquet")
        assert kept["sha256"].notna().all()  # of the first time, at the latest
    status, _, err = run("demo", *options(demo), "--hash=perhaps")
    assert status == 2
    assert "perhaps" in err


def test_what_is_wrong_is_said(run: Run, demo: Path, tmp_path: Path, broken_videos: dict[str, Path]) -> None:
    for k in range(7):
        (demo / "videos" / f"test0000{k}.mp4").unlink()
    shutil.copy(broken_videos["text"], demo / "videos" / "train00003.mp4")
    shutil.copy(demo / "videos" / "train00000.mp4", demo / "videos" / "test00009.mp4")
    report = tmp_path / "my report.csv"
    status, out, _ = run("demo", *options(demo), f"--report={report}")
    assert status == 1
    assert cells(out, "test") == ["test", "14", "14", "7", "7", "0", "14", "demo-14"]
    assert "videos/train00003.mp4 (train): is not a video" in out
    assert "missing (7):" in out
    assert "... and 2 more, see the report" in out
    assert "videos/test00009.mp4 (test): the same content in test and train: train00000 (train)" in out
    assert "can be used" not in out
    with report.open(newline="") as stream:
        kinds = [row["kind"] for row in csv.DictReader(stream)]
    assert kinds == ["broken", *["missing"] * 7, *["duplicate"] * 2]


def test_copies_alone_are_a_warning(run: Run, demo: Path) -> None:
    shutil.copy(demo / "videos" / "train00000.mp4", demo / "videos" / "test00009.mp4")
    status, out, _ = run("demo", *options(demo))
    assert status == 0
    assert "warning: the same content under several names" in out


def test_a_wrong_count(run: Run, tiny_msrvtt: Path) -> None:
    status, out, _ = run("msrvtt", f"--data.root={tiny_msrvtt}", "--data.val_videos=4", "--hash=false")
    assert status == 1
    assert "not as many as expected (2):" in out
    assert "4 texts in the annotations, 1,000 expected" in out
    assert "`centerclip data download msrvtt --only=annotations`" in out
    assert "Put MSR-VTT into" not in out  # no file is missing
    assert "4, not 1,000" in out


def test_what_to_put_where_is_said_where_videos_are_missing(run: Run, tiny_msrvtt: Path, tmp_path: Path) -> None:
    root = tmp_path / "msrvtt"
    shutil.copytree(tiny_msrvtt, root)  # the miniature serves other tests as well
    (root / "videos" / "video0.mp4").unlink()
    status, out, _ = run("msrvtt", f"--data.root={root}", "--data.val_videos=4", "--hash=false")
    assert status == 1
    assert "--only=annotations" in out
    assert "Put MSR-VTT into" in out


def test_a_dataset_of_ones_own_has_no_published_count(run: Run, tiny_custom: Path) -> None:
    status, out, _ = run("custom", f"--data.captions={tiny_custom}")
    assert status == 0
    assert cells(out, "train")[1:3] == ["unknown", "6"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_against_a_manifest(run: Run, demo: Path, tmp_path: Path, ending: str) -> None:
    manifest = tmp_path / f"theirs.{ending}"
    assert run("demo", *options(demo), f"--manifest={manifest}")[0] == 0
    status, out, _ = run("demo", *options(demo), f"--against={manifest}")
    assert status == 0
    assert "34 files are the same, 0 differ, 0 are only there, 0 only here" in out
    shutil.copy(demo / "videos" / "train00001.mp4", demo / "videos" / "train00002.mp4")
    status, out, _ = run("demo", *options(demo), f"--against={manifest}")
    assert status == 1
    assert "33 files are the same, 1 differ" in out
    assert "videos/train00002.mp4: content" in out
    assert 'different,,,videos/train00002.mp4,"content; ' in (demo / ".centerclip" / "problems.csv").read_text()


def test_mistakes_are_said_before_anything_is_opened(
    run: Run, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from centerclip_pl.video.check import Child

    monkeypatch.setattr(Child, "ask", lambda *_: pytest.fail("a file is opened"))
    (tmp_path / "other.csv").write_text("video,caption\na,b\n")
    for option, message in (
        ("--manifest=m.txt", "use .csv or .parquet"),
        (f"--against={tmp_path / 'absent.csv'}", "does not exist"),
        (f"--against={tmp_path / 'other.csv'}", "is no manifest"),
        ("--data.cache=c", "leave --data.cache out"),
        ("--jobs=0", "jobs=0"),
        (f"--report={tmp_path / 'new' / 'a.csv'}", "does not exist"),
        (f"--report={tmp_path}", "is a folder, not a file"),
        (f"--manifest={tmp_path / 'other.csv' / 'a.csv'}", "is not a folder"),
        (f"--data.videos={tmp_path / 'new'}", "does not exist"),
    ):
        status, _, err = run("demo", *options(demo), option)
        assert status == 2, option
        assert message in err
        assert "Traceback" not in err
        assert "workers" not in err
    assert not (tmp_path / "new").exists()
    assert run("msrvtt", f"--data.root={tmp_path / 'nowhere'}")[0] == 2
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_written(run: Run, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (demo / ".centerclip").write_text("a file where the folder should be; unlike permissions, root obeys this")
    status, out, _ = run("demo", *options(demo))
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith(("manifest: ", "report: "))]
    assert [Path(line.split(": ")[1]).is_relative_to(tmp_path / "cache") for line in lines] == [True, True]
