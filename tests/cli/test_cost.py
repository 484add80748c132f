from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.cli import cost, main
from centerclip_pl.training.results import read_results

MEASURED = {
    "gmacs_per_video": 0.5,
    "encode_ms_per_video": 7.0,
    "clustering_ms_per_video": 1.5,
    "peak_memory_mb": 9999.0,
    "peak_memory_kind": "cuda allocated",
    "batch_size": 1,
    "frames": 8,
    "repetitions": 3,
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
}


@pytest.fixture
def runs(tmp_path: Path, write_run: Any) -> Path:
    """Two runs with files in place of weights."""
    for name in ("a", "b"):
        folder = write_run(tmp_path / "runs" / name)
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    return tmp_path / "runs"


def fails(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as status:
        main(["cost", *words])
    assert status.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


def contents(runs: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in runs.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_a_copied_run_is_measured_again_and_keeps_its_memory(
    tiny_demo: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("WANDB_MODE", "disabled")
    options = [f"--data.root={tiny_demo}", "--data.train=16", "--data.val=4", "--data.test=14", "--data.batch_size=4"]
    options += [f"--model.backbone={tiny_backbone}", "--trainer.max_epochs=1", "--data.num_workers=0"]
    options += ["--tokens.segments=2", "--tokens.clusters=6", f"--run_dir={tmp_path / 'run'}"]
    main(["train", "--dataset=demo", *options])
    shutil.move(tmp_path / "run", tmp_path / "moved")
    file = tmp_path / "moved" / "results.json"
    before = json.loads(file.read_text())
    spoilt = {**before["cost"], "encode_ms_per_video": 1e9, "clustering_ms_per_video": 1e9, "peak_memory_mb": 123.0}
    file.write_text(json.dumps({**before, "cost": spoilt}))
    others = {name: text for name, text in contents(tmp_path / "moved").items() if name != file}
    main(["cost", str(tmp_path / "moved"), "--repetitions=2"])
    after = read_results(file)
    assert after["cost"] is not None
    assert 0 < after["cost"]["clustering_ms_per_video"] < after["cost"]["encode_ms_per_video"] < 1e6
    assert after["cost"]["repetitions"] == 2
    assert "measured_again" not in before["cost"]
    assert after["cost"]["measured_again"] >= after["created"]
    assert after["cost"]["gmacs_per_video"] == pytest.approx(before["cost"]["gmacs_per_video"])
    assert (after["cost"]["peak_memory_mb"], after["cost"]["peak_memory_kind"]) == (123.0, "process resident set")
    assert {**after, "cost": None} == {**before, "cost": None}
    assert {name: text for name, text in contents(tmp_path / "moved").items() if name != file} == others
    assert "[1/1]" in capfd.readouterr().out


def test_without_its_weights_no_run_is_measured(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "measure", lambda *_: pytest.fail("was measured"))
    (runs / "b" / "checkpoints" / "best.ckpt").unlink()
    before = contents(runs)
    error = fails([str(runs)], capfd)
    assert f"{runs / 'b'}: its weights" in error
    assert "measure where the run has its checkpoint" in error
    assert contents(runs) == before


def test_a_run_of_two_sources_is_measured_once(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    measured: list[tuple[Path, Path, int]] = []
    monkeypatch.setattr(cost, "measure", lambda *given: measured.append(given) or MEASURED)
    main(["cost", str(runs), str(runs / "a"), "--repetitions=3"])
    assert measured == [(runs / name, runs / name / "checkpoints" / "best.ckpt", 3) for name in ("a", "b")]
    assert "[2/2]" in capfd.readouterr().out


def test_what_fails_or_is_killed_meanwhile_leaves_the_old_file(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[list[str]] = []

    def killed(words: list[str]) -> Any:
        told.append(words)
        raise KeyboardInterrupt

    monkeypatch.setattr("centerclip_pl.cli.lightning.run", killed)
    before = contents(runs)
    with pytest.raises(SystemExit) as status:
        main(["cost", str(runs)])
    assert status.value.code == 130
    assert contents(runs) == before
    # Decoding of the next batches beside the measurement would be measured with it.
    assert {"--data.num_workers=0", "--postprocess.methods=[]"} <= set(told[0])
    assert f"--ckpt_path={runs / 'a' / 'checkpoints' / 'best.ckpt'}" in told[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{empty}"], "there is no results.json below"),
        (["{absent}"], "there is no such folder"),
        (["{runs}", "--repetitions=0"], "--repetitions is 0"),
    ],
)
def test_a_mistake_is_one_message(
    runs: Path, tmp_path: Path, words: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "absent": tmp_path / "absent", "runs": runs}
    assert says in fails([word.format(**places) for word in words], capfd)


def test_a_spoilt_file_is_named_before_anything_is_measured(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = runs / "b" / "results.json"
    file.write_text(file.read_text()[:100])
    before = contents(runs)
    assert f"{file}: is not complete JSON" in fails([str(runs)], capfd)
    assert contents(runs) == before
