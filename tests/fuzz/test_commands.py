"""Command lines and option files that someone mistyped: one message and status 2, no traceback, nothing written.

Nothing is trained, downloaded or submitted: where a command would begin to work, it ends (`Began`).
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import COMMANDS, JSON_VALUES, Damage, damages, tried
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl import cli
from centerclip_pl.cli.check_words import _parser_alone, check_words
from centerclip_pl.cli.data import ACTIONS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


class Began(BaseException):
    """The words were understood, and the work would begin."""


def begin(words: list[str], and_test: bool = False) -> Any:
    """In place of `lightning.run`: what can be known before anything runs."""
    if words[0] == "fit":
        check_words(words)
    else:
        _parser_alone().parser.parse_args(words)
    raise Began


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Iterator[Path]:
    """A working directory with experiments and runs, in which nothing can begin."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "experiments").symlink_to(EXPERIMENTS)
    for seed in (0, 1):
        write_run(folder / "runs" / "a" / str(seed), seed=seed, queries=20)
        write_run(folder / "runs" / "b" / str(seed), seed=seed, queries=20, method="baseline")
    (folder / "weights.pt").write_bytes(b"none")

    def stop(*_: Any, **__: Any) -> Any:
        raise Began

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("COLUMNS", "120")
        patch.setattr("centerclip_pl.cli.lightning.run", begin)
        sweep = importlib.import_module("centerclip_pl.cli.sweep")
        for name in ("_here", "_online", "_on_slurm"):
            patch.setattr(sweep, name, stop)
        for where, _ in ACTIONS.values():
            module = importlib.import_module(where.partition(":")[0])
            name = where.partition(":")[2]
            patch.setattr(module, name, functools.wraps(getattr(module, name))(stop))
        yield folder


def listing(folder: Path) -> list[str]:
    return sorted(str(Path(top, name)) for top, _, names in os.walk(folder) for name in names)


def say(words: list[str], shell: Path, capsys: pytest.CaptureFixture[str]) -> str | None:
    """Runs a command; what it says where it refuses the words, else None."""
    before, code = listing(shell), None
    capsys.readouterr()
    try:
        cli.main(words)
    except Began:
        return None
    except SystemExit as stopped:
        code = stopped.code
    if code in (0, None):  # also --help among the words
        return None
    said = capsys.readouterr().err
    assert code == 2, words
    assert "error: " in said, words
    assert "Traceback" not in said
    assert "<class '" not in said
    assert len(said) < 12_000  # of the longest word, 5,000
    assert listing(shell) == before
    return said


LINES: dict[str, list[str]] = {
    "train": "train --dataset=demo --method=kmedoids --tokens.segments=4 --tokens.clusters=48 --select=val "
    "--trainer.max_epochs=2 --model.optimizer.learning_rate=0.001 --data.num_frames=8 --seed_everything=3",
    "train spectral": "train --dataset=msrvtt --method=spectral --backbone=vit-b32 --model.reduction.sigma=2.0 "
    "--model.reduction.graph=knn --data.fps=null --trainer.accelerator=cpu --checkpoint.mode=max",
    "fit": "fit --config=experiments/datasets/demo.yaml --config=experiments/methods/kmedoids.yaml "
    "--config=experiments/backbones/demo.yaml --trainer.max_epochs=1 --model.head=seqTransf --data.batch_size=8",
    "eval": "eval --dataset=demo --method=pooling --data.num_frames=4 --postprocess.methods=[dual_softmax]",
    "validate": "validate --config=experiments/datasets/demo.yaml --config=experiments/methods/baseline.yaml",
    "sweep": "sweep segments --dataset=demo --offline --jobs=2 --count=3 --seed=1 --trainer.max_epochs=1",
    "sweep plan": "sweep method --dataset demo --dry_run --folder=elsewhere",
    "runs": "runs runs --seeds --sort t2v/R@1",
    "runs where": "runs runs/a runs/b --where segments>=4 --columns run,method,t2v/R@1 --on_bad_run skip",
    "compare": "compare runs/a runs/b --metric t2v/R@1",
    "report": "report runs -o report.html",
    "import": "import-checkpoint weights.pt out.ckpt --reduction=centerclip_pl.tokens.KMedoids "
    "--reduction.after_block=6 --reduction.segments=4 --reduction.clusters=49 --segment_mask=last",
    "reproduce": "reproduce msrvtt-9k --row 4",
    "download": "data download msvd --data.root=data/msvd",
    "verify": "data verify demo --data.root=data/demo --manifest=mine.csv",
    "prepare": "data prepare msrvtt --fps=3 --size=224 --jobs=2",
    "stats": "data stats msvd --data.tokenizer=nowhere --out=stats.png",
    "cache": "data cache msvd --out=CACHE --data.image_size=224",
    "show-tokens": "show-tokens video.mp4 --checkpoint weights.pt",
    "cost": "cost elsewhere",
}  # fmt: skip
LINES = {name: line.split() for name, line in LINES.items()}  # type: ignore[attr-defined]

VALUES = st.sampled_from([
    "", " ", "0", "-1", "1", "2.5", "1e400", "-inf", "nan", "9" * 40, "null", "None", "true", "[]", "[1,2]", "{}",
    "{a: 1}", "é", "漢字", "\u202e", "a b", "'", '"', "[", "{", "}", "${tokens.segments}", "${", "${x.y}",
    "!!python/object/apply:os.system [x]", "*a", "&a [*a]", "2001-99-99", "../..", "/", "~", "-", "@", "%s", "\n",
    "\\", "yes", "1_000", "0x10", "a" * 5000, "centerclip_pl.tokens.KMedoids", "os.system", "x.y.z", "builtins.eval",
])  # fmt: skip
NEW_WORDS = st.sampled_from([
    "--bogus", "--bogus=1", "-x", "--data.bogus=1", "--model.reduction=null", "--model.reduction.clusters=-1", "extra",
    "--tokens=3", "--model=3", "--data=3", "--trainer=3", "--config=nowhere.yaml", "--config", "--config=.", "=",
    "--dataset", "--method=", "--data.init_args.batch_size=x", "--print_config=x", "--model.reduction+=null", "---", "",
    "--trainer.callbacks=[1]", "--trainer.logger=x.Y", "--postprocess.methods=[x]", "--run_dir=weights.pt", "é=1", "\0",
    "--ckpt_path=weights.pt", "--checkpoint=weights.pt", "--select=last", "--seed_everything=x", "--where=(",
    "--model.backbone=", "--tokens.segments=7", "--experiments=nowhere", "--model.optimizer.learning_rate=-1",
])  # fmt: skip


@st.composite
def mistakes(draw: st.DrawFn) -> Callable[[list[str]], list[str]]:
    """A few slips of the finger, as a function of the right words."""
    kinds = ["drop", "twice", "swap", "misspell", "value", "value", "no value", "add", "add", "text", "cut"]
    share = st.floats(0, 1, exclude_max=True)
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(kinds), share, VALUES, NEW_WORDS, st.text(max_size=6), st.sampled_from("aeix-.=")
            ),
            min_size=1,
            max_size=3,
        )
    )

    def slip(words: list[str]) -> list[str]:
        command, words = words[0], list(words[1:])
        for kind, at, value, new, text, letter in steps:
            k = int(at * len(words))
            word = words[k] if words else ""
            name, equals, _ = word.partition("=")
            place = 2 + int(at * max(1, len(name) - 2))
            changed = {
                "drop": [],
                "twice": [word, word],
                "swap": [word[::-1]],
                "misspell": [name[:place] + letter + name[place + 1 :] + word[len(name) :]],
                "value": [f"{name}={value}" if equals else value],
                "no value": [name],
                "add": [word, new],
                "text": [f"{name}={text}" if equals else text],
                "cut": [word[:place]],
            }[kind]
            words[k : k + 1] = [each for each in changed if not each.startswith("wandb")]
        return [command, *words]

    return slip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "line",  # each word of a sweep is parsed for all of its runs
    [pytest.param(line, marks=pytest.mark.soak if line.startswith("sweep") else ()) for line in LINES],
)
@COMMANDS
@given(slip=mistakes())
def test_mistyped_commands(
    line: str, shell: Path, capsys: pytest.CaptureFixture[str], slip: Callable[[list[str]], list[str]]
) -> None:
    words = slip(LINES[line])
    said = say(words, shell, capsys)
    tried("good" if said is None else "bad")
    for name in ("report.html", "out.ckpt"):
        Path(name).unlink(missing_ok=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "line", ["train", "train spectral", "fit", "sweep", "sweep plan", "runs", "runs where", "cache"]
)
def test_the_words_themselves_are_right(line: str, shell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried()
    assert say(LINES[line], shell, capsys) is None


OPTIONS: dict[str, Any] = {
    "experiment": {"dataset": "demo", "method": "kmedoids", "backbone": "demo"},
    "data": {"class_path": "centerclip_pl.data.Demo", "init_args": {"root": "data/demo", "num_frames": 8}},
    "model": {
        "backbone": str(EXPERIMENTS / "backbones" / "demo"),
        "reduction": {
            "class_path": "centerclip_pl.tokens.KMedoids",
            "init_args": {"after_block": 2, "segments": "${tokens.segments}", "clusters": 48},
        },
        "optimizer": {"learning_rate": 1e-4},
    },
    "tokens": {"segments": 4},
    "trainer": {"max_epochs": 2},
    "seed_everything": 3,
}


@pytest.mark.filterwarnings("ignore")
@COMMANDS
@given(damage=damages())
def test_damaged_option_files(shell: Path, place: Path, capsys: pytest.CaptureFixture[str], damage: Damage) -> None:
    file = place / "options.yaml"
    file.write_bytes(damage(yaml.safe_dump(OPTIONS).encode()))
    tried("bad")
    said = say(["fit", "--config", str(file)], shell, capsys)
    assert said is None or "\n" in said


@pytest.mark.filterwarnings("ignore")
@COMMANDS
@given(path=st.lists(st.integers(0, 9), min_size=1, max_size=4), value=JSON_VALUES | VALUES)
def test_option_files_with_another_value(
    shell: Path, place: Path, capsys: pytest.CaptureFixture[str], path: list[int], value: Any
) -> None:
    content = yaml.safe_load(yaml.safe_dump(OPTIONS))
    at = content
    for step in path[:-1]:
        inside = [key for key in at if isinstance(at[key], dict) and at[key]]
        if not inside:
            break
        at = at[inside[step % len(inside)]]
    at[list(at)[path[-1] % len(at)]] = value
    file = place / "options.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    tried("bad")
    say(["fit", "--config", str(file)], shell, capsys)


HOSTILE = {
    "a date": "a: 2001-99-99",
    "a number": "a: !!int x",
    "a tag": "a: !!python/object/apply:os.mkdir [marker]",
    "an alias of itself": "&a [*a]",
    "not UTF-8": b"\xff\xfe\x00",
    "latin-1": "a: é".encode("latin-1"),
    "empty": "",
    "a list": "[1, 2]",
    "a word": "hello",
    "a key that is a list": "? [a]\n: 3",
    "a key that is a number": "3: 4",
    "sections that are none": "experiment: 3\ndata: 4\nmodel: 5\n",
    "lists": "experiment: [a]\ndata: [b]\nmodel: [c]\nparameters: [d]\n",
    "a default that is a table": "experiment: {method: {a: 1}, backbone: [b]}\n",
    "a tab": "\ta: 3",
    "twice": "model: 1\nmodel: 2\n",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_option_files(text: str, shell: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As an option file, a dataset's, method's and backbone's file, a sweep's, and as options beside a checkpoint."""
    content = HOSTILE[text]
    experiments = place / "experiments"
    for part in ("datasets", "methods", "backbones", "sweeps"):
        (experiments / part).mkdir(parents=True, exist_ok=True)
        for file in (EXPERIMENTS / part).glob("*.yaml"):
            (experiments / part / file.name).write_bytes(file.read_bytes())
    bad = content if isinstance(content, bytes) else content.encode()
    for part, name in (("datasets", "x"), ("methods", "x"), ("backbones", "x"), ("sweeps", "x")):
        (experiments / part / f"{name}.yaml").write_bytes(bad)
    here = f"--experiments={experiments}"
    for words in (
        ["fit", "--config", str(experiments / "datasets" / "x.yaml")],
        ["train", here, "--dataset=x"],
        ["train", here, "--dataset=demo", "--method=x"],
        ["train", here, "--dataset=demo", "--backbone=x"],
        ["eval", here, "--dataset=x"],
        ["sweep", "x", here, "--dry_run"],
        ["data", "verify", "x", here],
        ["data", "stats", "x", here],
    ):
        if text in ("empty", "twice") and words[0] != "sweep":
            continue  # nothing is said, or the last word counts
        tried("bad")
        said = say(words, shell, capsys)
        assert said is not None or text == "lists" or "--method=x" in words or "--backbone=x" in words, words
    assert not Path("marker").exists()
