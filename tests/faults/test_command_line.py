"""The real command on disks that fill up and folders that go away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def train(run_dir: Path, data: Path, backbone: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["train", "--dataset", "demo", "--experiments", str(REPOSITORY / "experiments"), f"--data.root={data}"]
    words += ["--data.train=16", "--data.val=4", "--data.test=14", "--data.batch_size=4", "--data.num_workers=0"]
    words += [f"--model.backbone={backbone}", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    return subprocess.run(
        [sys.executable, "-m", "centerclip_pl", *words, f"--run_dir={run_dir}", *more],
        env=os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
        cwd=run_dir.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.soak
def test_a_training_whose_disk_fills_up_goes_on_when_there_is_room(
    small_disk: Callable[[int], Path], tiny_demo: Path, tiny_backbone: Path
) -> None:
    import torch

    disk = small_disk(1500 * 1024)  # two checkpoints of 0.6 MiB, and not a third
    run = disk / "run"
    full = train(run, tiny_demo, tiny_backbone, "--trainer.max_epochs=3")
    assert full.returncode == 2, full.stderr
    assert "warning: the checkpoints need up to" in full.stderr
    assert "cannot be written: No space left on device (it needs about" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list((run / "checkpoints").glob(".*"))  # no part
    step = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert step == 4
    torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    freed = train(run, tiny_demo, tiny_backbone, "--trainer.max_epochs=3")
    assert freed.returncode == 0, freed.stderr
    assert "going on from" in freed.stderr
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 12
    assert (run / "results.json").is_file()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    refused = train(run, tiny_demo, tiny_backbone, "--trainer.max_epochs=4")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "Read-only file system" in refused.stderr
