from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip_pl.cli import main
from centerclip_pl.cli.data import stats as stats_module

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(dataset, option, ...)``: what ``data stats`` prints; its exit status must be 0."""

    def stats(dataset: str, *options: str) -> str:
        main(["data", "stats", dataset, f"--experiments={EXPERIMENTS}", *options])
        return capsys.readouterr().out

    return stats


@pytest.fixture
def custom(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """Four videos, of which one is missing; the test videos share a caption."""
    lines = ["video,caption,split"]
    for k, split in enumerate(("train", "val", "test", "test")):
        if k:
            make_video(tmp_path / f"{k}.mp4", 12 * k, fps=12)
        lines.append(f"{k}.mp4,{'the same words' if split == 'test' else f'this is number {k}'},{split}")
    (tmp_path / "my.csv").write_text("\n".join(lines))
    return tmp_path / "my.csv"


def row(out: str, name: str) -> list[str]:
    return next(line for line in out.splitlines() if line.strip().startswith(name)).replace(name, "").split()


def test_figures_and_a_picture(run: Run, tiny_demo: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    out = run(
        *("demo", f"--data.root={tiny_demo}", "--data.train=16", "--data.val=4", "--data.test=14"),
        *(f"--picture={tmp_path / 'new' / 'a.svg'}", f"--json={tmp_path / 'new' / 'a.json'}"),
    )
    assert row(out, "frames a second") == ["12"] * 6
    assert row(out, "captions a video") == ["4"] * 6
    assert float(row(out, "tokens a caption")[0]) > 2
    assert "captions are cut at max_words=48" in out
    assert "no caption belongs to two videos" in out
    assert (tmp_path / "new" / "a.svg").read_text().startswith("<?xml")
    figures = json.loads((tmp_path / "new" / "a.json").read_text())
    assert figures["splits"]["train"]["texts"] == 64
    assert figures["splits"]["test"]["shared_captions"]["best_recall"] == 100


def test_missing_videos_shared_captions_and_no_tokenizer(run: Run, custom: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = run("custom", f"--data.captions={custom}", f"--data.tokenizer={tmp_path / 'empty'}")
    assert "train: 1 video (1 missing: not in the figures), 1 caption, " in out
    assert row(out, "duration (s)") == ["-"] * 6
    assert row(out, "tokens a caption") == ["-"] * 6
    assert "no numbers of tokens: no tokenizer can be loaded" in out
    assert "--data.tokenizer=FOLDER" in out
    assert "2 captions belong to two or more of 2 videos, so that text-to-video R@1 can be 50.00 % at most" in out
    assert "2 videos: the same words" in out
    assert (tmp_path / ".centerclip" / "stats.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written(
    run: Run, custom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / ".centerclip").write_text("a file where the folder should be; unlike permissions, root obeys this")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    out = run("custom", f"--data.captions={custom}", f"--data.tokenizer={EXPERIMENTS / 'backbones' / 'demo'}")
    assert "picture: stats-custom.png" in out
    assert (tmp_path / "here" / "stats-custom.png").is_file()


def test_a_part_that_begins_after_the_end_is_broken(run: Run, tmp_path: Path, make_video: Callable[..., Path]) -> None:
    make_video(tmp_path / "a.mp4", 24, fps=12)
    lines = ["video,caption,split,start,end", "a.mp4,one,train,0,1", "a.mp4,two,train,3,4", "a.mp4,three,test,2,"]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    tokenizer = f"--data.tokenizer={EXPERIMENTS / 'backbones' / 'demo'}"
    out = run("custom", f"--data.captions={tmp_path / 'my.csv'}", "--data.val_videos=1", tokenizer)
    assert "test: 1 video (1 broken: not in the figures), 1 caption" in out
    assert sum("1 broken" in line for line in out.splitlines()) == 2
    assert row(out, "duration (s)")[0] in ("1", "-")  # never 0


def test_mistakes(
    run: Run, custom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats_module, "dataset_statistics", lambda *_, **__: pytest.fail("the dataset is looked at"))
    demo = f"--data.tokenizer={EXPERIMENTS / 'backbones' / 'demo'}"
    for option, message in (
        ("--picture=a.jpg", "use one of .png, .svg"),
        (f"--picture={custom}/a.png", "is not a folder"),
        (f"--json={custom}/a.json", "is not a folder"),
        (f"--picture={tmp_path}/new/a.png", "does not exist"),
        (f"--json={tmp_path}", "is a folder, not a file"),
        ("--jobs=0", "jobs=0"),
    ):
        with pytest.raises(SystemExit) as end:
            run("custom", f"--data.captions={custom}", demo, option)
        assert end.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
