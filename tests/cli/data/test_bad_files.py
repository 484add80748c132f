"""200 broken videos among good ones: every command tells them apart, and goes on or ends with a list."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from centerclip_pl.cli import main
from centerclip_pl.data.frame_cache import FrameCache

MakeVideo = Callable[..., Path]
REPOSITORY = Path(__file__).parents[3]
BAD, GOOD = 200, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    """200 bad videos and 12 good ones, 8 of these to train on."""
    source = Path(__file__).with_name("bad_files.py")
    spec = importlib.util.spec_from_file_location("bad_files", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = tmp_path_factory.mktemp("bad")
    rows = ["video,caption,split"]
    for number, file in enumerate(module.write_bad_videos(root, make_video, BAD)):
        rows.append(f"{file.name},what may be in file {number},{('train', 'train', 'val', 'test')[number % 4]}")
    for number in range(GOOD):
        make_video(root / f"good{number}.mp4", 10 + number, color_fn=lambda k, n=number: (20 * n, 5 * k, 40))
        split = "train" if number < 8 else "val" if number < 10 else "test"
        rows.append(f"good{number}.mp4,a good clip of number {number},{split}")
    (root / "captions.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def call(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; its exit status and what it printed. Anything else than an exit is a defect and is raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        options = ["--experiments", str(REPOSITORY / "experiments"), f"--data.captions={folder / 'captions.csv'}"]
        try:
            main([*words, *options, "--data.check_timeout=20"])
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return status, out + err

    return run


@pytest.mark.slow
def test_training(call: Any, folder: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    tiny = [
        f"--model.backbone={tiny_backbone}",
        "--data.batch_size=4",
        "--data.num_workers=1",
        "--trainer.max_epochs=1",
    ]
    tiny += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--method=baseline"]
    status, said = call("train", "--dataset", "custom", *tiny, "--run_dir=refused")
    assert status == 2
    assert "cannot be used" in said
    for policy in ("drop", "resample"):
        status, said = call(
            "train", "--dataset", "custom", *tiny, f"--data.on_bad_video={policy}", f"--run_dir={policy}"
        )
        assert status == 0, said
        results = json.loads((tmp_path / policy / "results.json").read_text())
        bad = {Path(video["path"]).name for video in results["counts"]["bad_videos"]}
        assert len(bad) > BAD / 2
        assert all(name.startswith("bad") for name in bad)
        assert results["counts"]["videos"] + results["counts"]["broken_videos"] == BAD // 4 + 2
        assert all(value == value for value in results["metrics"].values())


@pytest.mark.slow
def test_verify_and_stats(call: Any, folder: Path, tmp_path: Path) -> None:
    status, said = call("data", "verify", "custom", f"--report={tmp_path / 'report.csv'}")
    assert status == 1, said
    report = pd.read_csv(tmp_path / "report.csv")
    assert len(set(report["path"])) > BAD / 2
    assert report["path"].str.contains("bad").all()
    status, said = call(
        "data", "stats", "custom", f"--picture={tmp_path / 'stats.png'}", f"--json={tmp_path / 'all.json'}"
    )
    assert status == 0, said
    assert (tmp_path / "stats.png").stat().st_size > 1000
    assert json.loads((tmp_path / "all.json").read_text())


@pytest.mark.slow
def test_prepare_and_cache(call: Any, folder: Path, tmp_path: Path) -> None:
    small, cache = tmp_path / "small", tmp_path / "cache"
    words = ("data", "prepare", "custom", f"--out={small}", "--fps=4", "--size=64", "--timeout=20")
    assert call(*words)[0] == 1
    status, said = call(*words, "--data.on_bad_video=drop")
    assert status == 0, said
    bad = pd.read_csv(small / "problems.csv")
    assert len(bad) > BAD / 2
    assert bad["video_id"].str.startswith("bad").all()
    good = {file.name for file in small.rglob("*.mp4")}
    assert good.isdisjoint({f"{name.removesuffix('.mp4')}.mp4" for name in bad["video_id"]})
    assert {f"good{number}.mp4" for number in range(GOOD)} <= good

    words = ("data", "cache", "custom", f"--out={cache}", "--data.image_size=32")
    status, said = call(*words)
    assert status == 2
    assert not (cache / "cache.json").exists()
    status, said = call(*words, "--data.on_bad_video=drop")
    assert status == 0, said
    clips = FrameCache(cache).clips
    assert len(clips) == BAD + GOOD
    assert clips.loc[clips["video_id"].str.startswith("good"), "problem"].isna().all()
    assert clips["problem"].notna().sum() > BAD / 2
    for clip in clips[clips["problem"].isna()].itertuples():
        frames = FrameCache(cache).read(clip.video_id, lambda count: [0, count - 1])
        assert frames.shape == (2, 3, 32, 32)
