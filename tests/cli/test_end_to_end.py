"""The real command line in processes of its own, on real mp4 files: fit, interrupt, resume, test, predict, pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from centerclip_pl.retrieval import retrieval_metrics
from centerclip_pl.training.checkpoints import load_checkpoint
from centerclip_pl.training.predictions import read_embeddings

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = REPOSITORY / "experiments"


def environment() -> dict[str, str]:
    dropped = ("WANDB_MODE", "WANDB_API_KEY", "CENTERCLIP_RUN_DIR")
    return {k: v for k, v in os.environ.items() if k not in dropped} | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "centerclip_pl", *map(str, words)]


def run(cwd: Path, *words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*words), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def options(tiny_demo: Path, tiny_backbone: Path) -> list[str]:
    return [
        f"--config={EXPERIMENTS / 'datasets/demo.yaml'}",
        f"--config={EXPERIMENTS / 'methods/kmedoids.yaml'}",
        f"--config={EXPERIMENTS / 'backbones/demo.yaml'}",
        f"--data.root={tiny_demo}",
        "--data.train=16",
        "--data.val=4",
        "--data.test=14",
        "--data.batch_size=4",
        "--data.num_workers=1",
        f"--model.backbone={tiny_backbone}",
        "--trainer.accelerator=cpu",
    ]


@pytest.mark.slow
def test_fit_interrupt_resume_test_predict(tiny_demo: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    shared = options(tiny_demo, tiny_backbone)
    # An endless training is interrupted as Ctrl-C does it, once an epoch is done ...
    fit = command("fit", *shared, "--run_dir=run", "--trainer.max_epochs=10000")
    process = subprocess.Popen(
        fit, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    last = tmp_path / "run/checkpoints/last.ckpt"
    deadline = time.monotonic() + 240
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert last.is_file(), output
    assert process.returncode != 0
    assert "--run_dir=run goes on from its last checkpoint" in output
    assert "wandb sync" in output  # no key, no WANDB_MODE: offline by itself
    state = torch.load(last, weights_only=True)
    step, epochs = state["global_step"], state["epoch"] + 1
    assert step >= 4

    # ... and the same command goes on from there, to the end of the next two epochs.
    resumed = run(tmp_path, "fit", *shared, "--run_dir=run", f"--trainer.max_epochs={epochs + 2}")
    assert "going on from" in resumed.stderr
    finished = torch.load(last, weights_only=True)
    assert finished["global_step"] == 4 * (epochs + 2)
    rows = pd.read_csv(tmp_path / "run/metrics.csv")
    validations = rows.dropna(subset=["val/t2v/R@1"])["epoch"].tolist()
    assert validations == sorted(set(validations))  # none lost, none twice
    assert validations[-1] == epochs + 1

    # A later process tests the best checkpoint with the run's own configuration.
    config, best = "run/config.yaml", "run/checkpoints/best.ckpt"
    tested = run(tmp_path, "test", "--config", config, "--ckpt_path", best, "--run_dir=tested")
    results = json.loads((tmp_path / "tested/results.json").read_text())
    assert "R@1" in tested.stdout
    assert results["protocol"] == "demo-14"
    assert results["selection"]["rule"] == "best"
    assert results["selection"]["monitor"] == "val/t2v/R@1"
    assert "test/t2v_order/R@1" in results["metrics"]
    assert results["cost"]["gmacs_per_video"] > 0
    assert results["counts"]["videos"] == results["counts"]["texts"] == 14
    assert not (tmp_path / "run/results.json").exists()

    # The embeddings on disk give the metrics that the test reported.
    run(tmp_path, "predict", "--config", config, "--ckpt_path", best, "--run_dir=predicted")
    embeddings = read_embeddings(tmp_path / "predicted/predictions")
    assert len(embeddings.videos) == len(embeddings.texts) == 14
    model = load_checkpoint(tmp_path / best)
    with torch.no_grad():
        logits = model.similarity(embeddings.text, embeddings.video)
    for name, value in retrieval_metrics(logits, embeddings.video_of_text).items():
        assert results["metrics"][f"test/{name}"] == pytest.approx(value), name

    # And a picture of what is kept.
    video = next((tiny_demo / "videos").glob("test*.mp4"))
    run(tmp_path, "show-tokens", video, "--checkpoint", best, "--output", "tokens.png")
    with Image.open(tmp_path / "tokens.png") as picture:
        assert picture.width > 300


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "--dataset", "msrvt"], ["no dataset 'msrvt'", "did you mean msrvtt"]),
        (["train", "--method", "kmeans"], ["no method 'kmeans'", "baseline"]),
        (
            ["train", "--dataset", "msrvtt", "--model.backbone=BACKBONE"],
            ["data/msrvtt", "MSRVTT_data.json", "video0.mp4"],
        ),
        (["train", "--trainer.max_epoch=1"], ["max_epoch"]),
        (["train", "--model.backbone=nowhere/at/all"], ["nowhere/at/all", "no such folder"]),
        (["train", "--model.backbone=BACKBONE", "--tokens.segments=3"], ["8 frames", "3 segments", "1, 2, 4, 8"]),
        (["train", "--model.backbone=BACKBONE", "--tokens.clusters=500"], ["clusters is 500", "128"]),
        (["eval", "--checkpoint", "absent.ckpt"], ["absent.ckpt", "no such file"]),
        (["eval", "--checkpoint", __file__, "--model.backbone=BACKBONE"], [__file__, "no checkpoint at all"]),
        (["show-tokens", "absent.mp4", "--checkpoint", "absent.ckpt"], ["absent.mp4"]),
        (["tets"], ["did you mean `test`"]),
        (["train", "--model.backbone=BACKBONE", "--model.optimizer.warmup=2"], ["warmup is 2"]),
        (["train", "--model.backbone=BACKBONE", "--tokens.clusters=0"], ["clusters is 0"]),
        (["train", "--model.backbone=BACKBONE", "--trainer.accelerator=gpu"], ["gpu"]),
        (["train", "--model.backbone=BACKBONE", f"--run_dir={__file__}"], ["which is a file"]),
    ],
)
def test_mistakes_get_one_message(
    words: list[str],
    says: list[str],
    tmp_path: Path,
    tiny_demo: Path,
    tiny_backbone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from centerclip_pl.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    if words[0] in ("train", "eval") and "--dataset" not in words:
        words = [*words, f"--data.root={tiny_demo}", "--data.train=16", "--data.val=4", "--data.test=14"]
    words = [word.replace("BACKBONE", str(tiny_backbone)) for word in words]
    if words[0] in ("train", "eval"):
        words[1:1] = ["--experiments", str(EXPERIMENTS)]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for part in says:
        assert part in message


def test_a_broken_video_ends_the_run_before_training_or_is_dropped_and_listed(
    tiny_custom: Path,
    tiny_backbone: Path,
    broken_videos: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from centerclip_pl.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    good = [line.split(",") for line in tiny_custom.read_text().splitlines()]
    rows = [",".join(good[0])] + [",".join([str(tiny_custom.parent / line[0]), *line[1:]]) for line in good[1:]]
    rows += [f"{broken_videos['cut']},a clip that was cut off,train", "absent.mp4,a clip that is not there,test"]
    captions = tmp_path / "captions.csv"
    captions.write_text("\n".join(rows) + "\n")
    words = ["train", "--dataset", "custom", "--experiments", str(EXPERIMENTS), f"--data.captions={captions}"]
    words += [f"--model.backbone={tiny_backbone}", "--data.batch_size=4", "--data.num_workers=0"]
    words += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--run_dir=refused"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    for part in ("cut.mp4", "absent.mp4", "on_bad_video=drop"):
        assert part in message
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "refused/results.json").exists()

    main([*words, "--run_dir=dropped", "--data.on_bad_video=drop"])
    counts = json.loads((tmp_path / "dropped/results.json").read_text())["counts"]
    assert {(Path(bad["path"]).name, bad["split"]) for bad in counts["bad_videos"]} == {
        ("cut.mp4", "train"),
        ("absent.mp4", "test"),
    }
    assert counts["videos"] == 2
    assert counts["missing_videos"] == 1
