"""`reproduce` from the outside: lists, commands, a real miniature run, and results of earlier runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from centerclip_pl.cli import experiment, main
from centerclip_pl.cli.lightning import RetrievalCLI
from centerclip_pl.cli.reproduce import reproduce_command
from centerclip_pl.errors import CenterCLIPError, ConfigError, DataError
from centerclip_pl.training.published import PublishedRow, read_published
from centerclip_pl.training.run_settings import effective

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = REPOSITORY / "experiments"
TABLES = read_published(EXPERIMENTS / "papers")
ROWS = [row for rows in TABLES.values() for row in rows]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with W&B off and the repository's experiments named by nobody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("CENTERCLIP_RUN_DIR", raising=False)
    return tmp_path


def reproduce(*words: str) -> None:
    """In the repository's place: `here` is elsewhere."""
    first = [words[0]] if words and not words[0].startswith("-") else []
    reproduce_command([*first, "--experiments", str(EXPERIMENTS), *words[len(first) :]])


# What runs ------------------------------------------------------------------------------------------------------------


class _Parsed(Exception):
    """Options as the command line understands them, raised before anything is loaded."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.table}-{row.number}")
def test_every_row_is_a_command_that_trains_as_published(
    row: PublishedRow, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, name in row.experiment.items():
        assert (EXPERIMENTS / f"{part}s" / f"{name}.yaml").is_file()

    def stop(cli: RetrievalCLI) -> None:
        parser: Any = cli._parser(cli.subcommand)
        raise _Parsed(yaml.safe_load(parser.dump(cli.config[cli.subcommand], skip_unset=False)))

    monkeypatch.setattr(RetrievalCLI, "before_instantiate_classes", stop)
    with pytest.raises(_Parsed) as stopped:
        experiment.train(["--experiments", str(EXPERIMENTS), *row.words()])
    (config,) = stopped.value.args
    assert {name: effective(config, name) for name in row.settings} == row.settings
    assert config["experiment"] == dict(row.experiment)


def test_dry_run_prints_what_would_run_and_runs_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "train", lambda words: pytest.fail("it ran"))
    monkeypatch.chdir(REPOSITORY)
    main(["reproduce", "msrvtt-9k", "--row", "4", "--dry_run", "--data.root", "my videos", "--hub.token=abcdef"])
    assert capsys.readouterr().out == (
        "centerclip train --dataset msrvtt --method kmedoids --backbone vit-b32 --tokens.segments=4 "
        "--tokens.clusters=49 --data.training=9k --data.root 'my videos' '--hub.token=***'\n"
    )


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_of_several_processes_one_speaks(
    variable: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(experiment, "train", ran.append)
    monkeypatch.setenv(variable, "1")
    reproduce("msrvtt-9k", "--row", "3", "--run_dir=run")
    assert capsys.readouterr().out == ""
    assert len(ran) == 1
    assert ran[0][-1] == "--run_dir=run"


def tiny(tiny_msrvtt: Path, tiny_backbone: Path) -> list[str]:
    """Options that make a run of a second."""
    return [
        f"--data.root={tiny_msrvtt}",
        f"--model.backbone={tiny_backbone}",
        "--data.val_videos=4",
        "--data.batch_size=4",
        "--data.num_workers=0",
        "--trainer.max_epochs=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
    ]


def test_a_row_is_trained_and_set_beside_the_published_one(
    here: Path,
    tiny_msrvtt: Path,
    tiny_backbone: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["msrvtt-9k", "--row", "4", *tiny(tiny_msrvtt, tiny_backbone)]
    reproduce(*words)
    output = capsys.readouterr().out
    (folder,) = (here / "runs/msrvtt/kmedoids_vit-b32").iterdir()  # as `train` names it
    results = json.loads((folder / "results.json").read_text())
    command = next(line for line in output.splitlines() if line.startswith("centerclip train "))
    assert shlex.split(command)[2:8] == ["--dataset", "msrvtt", "--method", "kmedoids", "--backbone", "vit-b32"]
    _, _, comparison = output.rpartition("msrvtt-9k, row 4: kmedoids, 4 segments of 49 tokens, ViT-B/32")
    ours = re.search("text to video, ours │ (.*)", comparison)
    assert ours is not None
    figures = [results["metrics"][f"test/t2v/{name}"] for name in ("R@1", "R@5", "R@10", "MdR", "MnR")]
    assert [float(cell) for cell in re.findall(r"[\d.]+", ours[1])] == [round(figure, 1) for figure in figures]
    assert re.search("published +│ +43.6 │ +71.4 │ +81.2 │ +2.0 │ +15.3 │", comparison)
    flowing = " ".join(comparison.split())
    for reason in (
        "the test split has 4 videos and 4 texts, the published one 1,000 videos and 1,000 texts",
        "the checkpoint was chosen on validation, the published ones on the test set: ours is the stricter figure",
        "the train split has 8 videos, the published one 9,000",
        "data.batch_size is 4 in all, published with 128",
        "trainer.max_epochs is 1, published with 5",
        "another architecture: patch_size 8 instead of 32, hidden_size 16 instead of 768",
    ):
        assert reason in flowing
    reasons = comparison[comparison.index("not as published:") : comparison.index("note:")]
    assert len(re.findall("^ - ", reasons, re.MULTILINE)) == 6

    # The same words with the run's folder go on with it, here from its end, and find the same.
    reproduce(*words, f"--run_dir={folder}")
    again = capsys.readouterr()
    assert "going on from" in again.err
    assert [line for line in again.out.splitlines() if "ours │" in line] == [
        line for line in comparison.splitlines() if "ours │" in line
    ]

    # And so does the comparison alone.
    reproduce("msrvtt-9k", "--row", "4", "--results", str(folder))
    assert "not as published:" in capsys.readouterr().out


@pytest.mark.soak
def test_an_interrupted_run_goes_on(here: Path, tiny_msrvtt: Path, tiny_backbone: Path) -> None:
    words = [sys.executable, "-m", "centerclip_pl", "reproduce", "msrvtt-9k", "--row", "3"]
    words += ["--experiments", str(EXPERIMENTS), *tiny(tiny_msrvtt, tiny_backbone)]
    endless = [*words, "--trainer.max_epochs=100000"]
    process = subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not (found := list(here.glob("runs/*/*/*/checkpoints/last.ckpt"))) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "published" not in output
    resume = re.search(r"the same command with (--run_dir=\S+) goes on from its last checkpoint", output)
    assert resume is not None, output
    epochs = torch.load(found[0], weights_only=True)["epoch"] + 2
    done = subprocess.run(
        [*words, f"--trainer.max_epochs={epochs}", resume[1]], capture_output=True, text=True, timeout=120, check=True
    )
    assert "going on from" in done.stderr
    assert "text to video, ours" in done.stdout
    assert f"trainer.max_epochs is {epochs}, published with 5" in " ".join(done.stdout.split())


# Results of earlier runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def earlier(tiny_msrvtt: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that lost a test video and chose on the test set."""
    root = tmp_path_factory.mktemp("data") / "msrvtt"
    shutil.copytree(tiny_msrvtt, root)
    (root / "videos/video13.mp4").unlink()
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        words = ["--experiments", str(EXPERIMENTS), "--dataset", "msrvtt", "--method", "baseline"]
        words += tiny(root, tiny_backbone)
        experiment.train([*words, "--data.on_bad_video=drop", "--data.select_on_test=true", f"--run_dir={folder}"])
    return folder


def compare(capsys: pytest.CaptureFixture[str], folder: Path, *, row: str = "3") -> str:
    capsys.readouterr()
    reproduce("msrvtt-9k", "--row", row, "--results", str(folder / "results.json"))
    return " ".join(capsys.readouterr().out.split())


def test_missing_videos_and_selection_on_test_are_said(
    here: Path, earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = compare(capsys, earlier)
    assert "1 of 4 test videos missing" in output
    assert "- the checkpoint was chosen on the test set, as the published ones were" in output.partition("note:")[2]
    assert "chosen on validation" not in output
    assert "model.reduction is none, published with KMedoids" in compare(capsys, earlier, row="4")
    # A row of CLIP4Clip: its recipe, its head, its sampling.
    output = compare(capsys, earlier, row="2")
    for option in ("model.optimizer.recipe", "model.head", "data.train_sampling"):
        assert f"- {option} is " in output
    assert "16 bits" in output


@pytest.fixture
def copied(earlier: Path, tmp_path: Path) -> Callable[[str, str | None], Path]:
    """``copied(name, text)``: the earlier run's reports, one of them with another content or gone."""

    def make(name: str, text: str | None) -> Path:
        folder = tmp_path / "copy"
        folder.mkdir()
        for report in ("results.json", "config.yaml", "metrics.csv"):
            shutil.copy(earlier / report, folder)
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)
        return folder

    return make


def test_without_the_runs_options(
    here: Path, copied: Callable[[str, str | None], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no config.yaml beside results.json" in compare(capsys, copied("config.yaml", None))


def test_memory_of_the_training(
    here: Path, copied: Callable[[str, str | None], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("metrics.csv", "step,train/peak_memory_mb\n1,\n2,14336\n3,15360.0\n4,\n")
    assert "training, GB of a GPU │ 15.0 │ 20.8 │" in compare(capsys, folder)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("results.json", None, "there is no such file"),
        ("results.json", "{", "not complete JSON"),
        ("config.yaml", "a: [", "config.yaml: cannot be read"),
        ("config.yaml", "- list", "config.yaml: holds no options"),
        ("metrics.csv", "train/peak_memory_mb\nmuch\n", "metrics.csv: cannot be read.*'much'"),
    ],
)
def test_damaged_reports_are_named(
    name: str, text: str | None, says: str, here: Path, copied: Callable[[str, str | None], Path]
) -> None:
    with pytest.raises(DataError, match=f"(?s){says}"):
        reproduce("msrvtt-9k", "--row", "3", "--results", str(copied(name, text)))


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [("selection", {"rule": "best"}, "selection lacks epoch, monitor"), ("counts", [], "counts lacks counts")],
)
def test_results_that_were_edited(
    part: str, value: Any, says: str, here: Path, earlier: Path, copied: Callable[[str, str | None], Path]
) -> None:
    results = json.loads((earlier / "results.json").read_text()) | {part: value}
    with pytest.raises(DataError, match=f"results.json: {says}"):
        reproduce("msrvtt-9k", "--row", "3", "--results", str(copied("results.json", json.dumps(results))))


def test_a_backbone_whose_description_is_damaged(
    here: Path, earlier: Path, copied: Callable[[str, str | None], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = yaml.safe_load((earlier / "config.yaml").read_text())
    options["model"]["backbone"] = str(here / "clip")
    (here / "clip").mkdir()
    (here / "clip/config.json").write_text("{")
    folder = copied("config.yaml", yaml.safe_dump(options))
    reproduce("msrvtt-9k", "--row", "3", "--results", str(folder))
    output = capsys.readouterr()
    assert "clip/config.json cannot be read" in output.err
    assert "its architecture is not known" in " ".join(output.out.split())


# Lists and mistakes ---------------------------------------------------------------------------------------------------


def test_lists(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce()
    tables = capsys.readouterr().out
    assert all(name in tables for name in ("msrvtt-9k", "msvd", "lsmdc", "activitynet"))
    reproduce("lsmdc")
    assert re.search("│ +4 │ kmedoids +│ ViT-B/32 │ 6 │ +49 │ 21.9 41.1 50.7 │", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["msrvt", "--row", "1"], "'msrvt'.*did you mean msrvtt-9k.*msvd"),
        (["youcook"], "'youcook'.*tables are there for"),
        (["msvd", "--row", "10"], "no row '10' of msvd; its rows are 1 to 9"),
        (["msvd", "--row", "0"], "no row '0'"),
        (["msvd", "--row", "kmedoids"], "no row 'kmedoids'"),
        (["--row", "1"], "of which dataset"),
        (["msvd", "--trainer.max_epochs=1"], "max_epochs=1 needs a row"),
        (["msvd", "--dry_run"], "--dry_run needs a row"),
        (["msvd", "--results", "results.json"], "--results needs a row"),
        (["msvd", "--row", "1", "--results", "x", "--data.root=y"], "--data.root=y has no effect with --results"),
        (["msvd", "--row", "1", "--results", "x", "--dry_run"], "--dry_run has no effect"),
        (["msvd", "--row", "1", "--results", "no/such/file"], "no/such/file: there is no such file"),
    ],
)
def test_mistakes(words: list[str], says: str, here: Path) -> None:
    with pytest.raises(CenterCLIPError, match=f"(?s){says}"):
        reproduce(*words)


def test_no_experiments_here(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)there is no .*centerclip.yaml.*--experiments=FOLDER"):
        reproduce_command(["msvd"])


def test_a_run_whose_folder_only_a_file_names(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "train", lambda words: None)
    with pytest.raises(ConfigError, match=r"(?s)the run is done, but its folder.*--results=FOLDER"):
        reproduce("msvd", "--row", "1", "--config=mine.yaml")
