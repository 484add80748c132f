"""Each published dataset in small, from the files that its owners publish to a trained model, by the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.cli import main

REPOSITORY = Path(__file__).parents[3]
EXPERIMENTS = ["--experiments", str(REPOSITORY / "experiments")]
DATASETS = ["msrvtt", "msvd", "lsmdc", "activitynet", "didemo"]


def call(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def train(dataset: str, run_dir: str, backbone: Path, *options: str) -> dict[str, Any]:
    words = ["train", "--dataset", dataset, *EXPERIMENTS, f"--model.backbone={backbone}", f"--run_dir={run_dir}"]
    words += ["--method=baseline", "--data.batch_size=4", "--data.num_frames=4", "--trainer.max_epochs=1"]
    words += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", *options]
    assert call(*words) == 0
    results: dict[str, Any] = json.loads((Path(run_dir) / "results.json").read_text())
    return results


@pytest.mark.parametrize(
    "dataset",
    [pytest.param(name, marks=pytest.mark.soak) if name != "msrvtt" else name for name in DATASETS],
)
def test_verify_prepare_cache_train(
    dataset: str,
    write_miniature: Callable[[str, Path], dict[str, str]],
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    root, small, cache = tmp_path / "data", tmp_path / "small", tmp_path / "cache"
    options = [f"--data.{name}={value}" for name, value in write_miniature(dataset, root).items()]
    options.append(f"--data.root={root}")

    # Everything opens; that it is not the whole dataset is the only thing to say.
    assert call("data", "verify", dataset, *EXPERIMENTS, *options) == 1
    said = capsys.readouterr().out
    assert "not as many as expected" in said
    assert "cannot be used" not in said
    first = train(dataset, "first", tiny_backbone, *options)
    assert first["counts"]["bad_videos"] == []
    assert first["counts"]["videos"] == 4

    # Small files take the place of the published ones, which may then go.
    assert call("data", "prepare", dataset, *EXPERIMENTS, *options, f"--out={small}", "--fps=4", "--size=64") == 0
    for folder in root.iterdir():
        if folder.is_dir() and folder.name != "annotations":
            shutil.rmtree(folder)
    assert call("data", "verify", dataset, *EXPERIMENTS, *options) == 1
    assert "missing" in capsys.readouterr().out
    prepared = [*options, f"--data.videos={small}"]
    second = train(dataset, "second", tiny_backbone, *prepared)
    assert second["counts"] == first["counts"]

    # And a cache takes the place of these.
    assert call("data", "cache", dataset, *EXPERIMENTS, *prepared, "--data.image_size=64", f"--out={cache}") == 0
    shutil.rmtree(small)
    third = train(dataset, "third", tiny_backbone, *options, f"--data.cache={cache}")
    assert third["counts"] == second["counts"]
    assert third["metrics"] == pytest.approx(second["metrics"])  # the very same frames
