"""Every notebook on what a real sweep leaves: trained on the demo's kind of videos, one process a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from centerclip_pl.cli.notebooks import execute

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from centerclip_pl.data.demo.generate import generate

    root = tmp_path_factory.mktemp("data") / "demo"
    generate(root, train=16, val=4, test=14, jobs=1)
    return root


@pytest.fixture(scope="module")
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory, tiny_demo: Path) -> Path:
    """The folder of a sweep of segments x clusters, as `make sweep` makes one on the demo, but of 16 videos."""
    folder = tmp_path_factory.mktemp("sweep")
    options = [f"--data.root={tiny_demo}", "--data.train=16", "--data.val=4", "--data.test=14", "--data.batch_size=8"]
    command = [sys.executable, "-m", "centerclip_pl", "sweep", "segments", "--dataset=demo", "--offline", "--count=4"]
    more = [f"--folder={folder / 'runs'}", "--trainer.max_epochs=1", "--data.num_workers=0"]
    done = subprocess.run([*command, *more, *options], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 runs finished" in done.stdout
    return folder / "runs"


def test_the_sweep_is_the_demos_own(tiny_sweep: Path) -> None:
    of_the_file = yaml.safe_load((REPOSITORY / "experiments" / "sweeps" / "demo" / "segments.yaml").read_text())
    there = yaml.safe_load((tiny_sweep / "sweep.yaml").read_text())
    assert there["parameters"] == of_the_file["parameters"]
    assert len(list(tiny_sweep.glob("*/results.json"))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_leaves_its_pictures(notebook: Path, tiny_sweep: Path, tiny_demo: Path, tmp_path: Path) -> None:
    fewer = {"COUNT": 4, "DRAWS": 20, "DEMO": str(tiny_demo)} if notebook.stem == "what_is_kept" else {}
    resamples = {"RESAMPLES": 500} if "RESAMPLES" in notebook.read_text() else {}
    figures = tmp_path / "figures"
    figures.mkdir()
    outcome = execute(notebook, tmp_path / "copy.ipynb", str(tiny_sweep), figures, timeout=300, **fewer, **resamples)
    assert (outcome.failure, outcome.lacks) == (None, None)
    assert outcome.figures >= 1
    assert all(path.stat().st_size > 2000 for path in figures.iterdir())
