from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip_pl.cli import main
from centerclip_pl.video.decode import decode

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(dataset, option, ...)``: exit status, standard output and standard error of ``data prepare``."""

    def prepare(dataset: str, *options: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(["data", "prepare", dataset, f"--experiments={EXPERIMENTS}", *options])
        except SystemExit as end:
            status = int(end.code or 0)
        out = capsys.readouterr()
        return status, out.out, out.err

    return prepare


@pytest.fixture
def demo(tiny_demo: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(tiny_demo, tmp_path / "demo", ignore=shutil.ignore_patterns(".centerclip", "prepared-*"))
    )


def options(root: Path) -> list[str]:
    return [f"--data.root={root}", "--data.train=16", "--data.val=4", "--data.test=14"]


def test_prepared_videos_take_the_place_of_the_published_ones(run: Run, demo: Path) -> None:
    from centerclip_pl.data import Demo

    out = demo / "prepared-3fps-48"
    status, said, _ = run("demo", *options(demo), "--size=48")
    assert status == 0, said
    assert f"{out}: 34 videos prepared, 0 were there already" in said
    assert said.splitlines()[1] == f"use it with --data.videos={out}"
    assert "this backbone takes 64 pixels" in said
    data = Demo(root=str(demo), train=16, val=4, test=14, image_size=48, videos=str(out))
    data.check()
    assert data.counts()["train"] == {"videos": 16, "texts": 64, "missing": 0, "broken": 0}
    paths = {Path(path) for path in data.captions("test")["path"]}
    assert paths == {out / "videos" / f"test{k:05}.mp4" for k in range(14)}
    info = decode(out / "videos" / "test00000.mp4", lambda n: [0]).info
    assert (info.height, info.fps) == (48, 3)
    status, said, _ = run("demo", *options(demo), "--size=48")
    assert (status, f"{out}: 0 videos prepared, 34 were there already" in said) == (0, True)


def test_videos_that_cannot_be_used_are_listed(
    run: Run, demo: Path, tmp_path: Path, broken_videos: dict[str, Path]
) -> None:
    whole = (demo / "videos" / "train00003.mp4").read_bytes()
    for k in range(6):
        (demo / "videos" / f"test0000{k}.mp4").unlink()
    shutil.copy(broken_videos["text"], demo / "videos" / "train00003.mp4")
    arguments = [*options(demo), f"--out={tmp_path / 'out'}", "--fps=2", "--jobs=1"]
    status, said, _ = run("demo", *arguments)
    assert status == 1
    assert "27 videos prepared, 0 were there already" in said
    assert "7 videos cannot be used" in said
    assert "train00003.mp4 (train): is not a video" in said
    assert "... and 2 more" in said
    assert f"use it with --data.videos={tmp_path / 'out'}" in said
    with (tmp_path / "out" / "problems.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["video_id"] for row in rows] == ["train00003", *(f"test0000{k}" for k in range(6))]
    assert {row["split"]: row["reason"] for row in rows} == {"train": "is not a video", "test": "does not exist"}
    assert rows[0]["path"] == str(demo / "videos" / "train00003.mp4")

    assert run("demo", *arguments, "--data.on_bad_video=drop")[0] == 0
    assert (tmp_path / "out" / "problems.csv").exists()

    for k in range(6):
        (demo / "videos" / f"test0000{k}.mp4").write_bytes(whole)
    (demo / "videos" / "train00003.mp4").write_bytes(whole)
    status, said, _ = run("demo", *arguments)
    assert (status, "7 videos prepared, 27 were there already" in said) == (0, True)
    assert not (tmp_path / "out" / "problems.csv").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--size=225"], "size=225: must be an even number"),
        (["--crf=99"], "crf=99"),
        (["--jobs=0"], "jobs=0"),
        (["--data.videos=somewhere"], "videos=somewhere: the published videos are to be prepared"),
        (["--data.cache=somewhere"], "cache=somewhere"),
        (["--data.root=nowhere", "--out=elsewhere", "--fps=0"], "fps=0"),
        (["--frames=3"], "frames"),
    ],
)
def test_mistakes_end_in_one_message(run: Run, demo: Path, words: list[str], problem: str) -> None:
    status, _, said = run("demo", *options(demo), *words)
    assert status == 2
    assert problem in said
    assert "Traceback" not in said
    assert not list(demo.glob("prepared-*"))


def test_a_dataset_that_is_not_there(run: Run, tmp_path: Path) -> None:
    status, _, said = run("msrvtt", f"--data.root={tmp_path / 'none'}")
    assert status == 2
    assert "does not exist" in said
    assert not (tmp_path / "none").exists()


def test_help(run: Run) -> None:
    status, said, _ = run("demo", "--help")
    assert status == 0
    for option in ("--out", "--fps", "--size", "--crf", "--jobs", "--timeout", "--overwrite"):
        assert option in said
