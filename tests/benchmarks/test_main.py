"""Whole runs at toy sizes, and what is said when something goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import clustering, parts, training_step
from benchmarks.__main__ import main
from benchmarks.encoder import reducer_gmacs
from benchmarks.models import module, videos
from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import Summary
from centerclip_pl.tokens import KMedoids

QUICK = Plan(quick=True)


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    main([*arguments, "--folder", str(folder)])
    (path,) = folder.glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_a_quick_run_writes_a_file_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = run(tmp_path, "--quick", "--only", "direct", "heads", "--markdown")
    assert content["quick"] is True
    assert next(tmp_path.iterdir()).name.endswith("-quick.json")
    assert len(content["measured"]) == 4
    for entry in content["measured"]:
        assert entry["measurement"] == "direct"
        assert entry["ratio"]["median"] > 0
        assert all(entry["times_ms"][thing]["median"] > 0 for thing in ("direct", "k-medoids"))
        assert entry["ratio"]["repetitions"] == 2
        assert entry["at_least"] is None  # bounds are for real sizes
        assert entry["reached"] is None
        assert "same medoids" in entry["detail"]
    assert [part["what"] for part in content["parts"]] == [f"{name}, 4 x 4" for name in parts.HEADS]
    assert all(part[key] > 0 for part in content["parts"] for key in ("forward_ms", "both_ms", "gmacs", "peak_mib"))
    assert capsys.readouterr().out.startswith("| measured | ratio |")

    readme = tmp_path / "README.md"
    readme.write_text("<!-- benchmarks -->\n<!-- /benchmarks -->\n")
    results = next(tmp_path.glob("*.json"))
    main(["--table", str(results), "--into", str(readme)])
    assert "| head: seqTransf, 4 x 4 |" in readme.read_text()


def test_an_encoder_run_counts_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.encoder, "CASES", {32: command.encoder.CASES[32][:1]})
    entries = run(tmp_path, "--quick", "--only", "encoder")["measured"]
    assert [entry["what"] for entry in entries] == ["B6-4,49, 1 video", "B6-4,49, 4 videos"]
    for entry in entries:
        gmacs = entry["gmacs"]
        assert 0 < gmacs["of them clustering"] < gmacs["k-medoids"] < gmacs["none"]
        assert entry["possible"] == pytest.approx(gmacs["none"] / gmacs["k-medoids"])
        assert entry["near"] == pytest.approx(entry["ratio"]["median"] / entry["possible"])
    one, four = entries
    assert four["gmacs"]["none"] == pytest.approx(4 * one["gmacs"]["none"])


def test_a_training_step_is_measured_in_time_and_memory() -> None:
    entries = training_step.against_none(QUICK)
    assert [entry.group.split(", ")[1] for entry in entries] == ["time", "peak memory"] * 2
    for time, memory in zip(entries[::2], entries[1::2], strict=True):
        assert time.ratio is not None
        assert memory.ratio is not None
        assert time.possible is not None
        assert 0.5 < time.possible < 1  # a half of the blocks sees a third of the tokens
        assert 0.5 < memory.ratio.median < 1


def test_reducers_are_measured_within_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: parts.REDUCERS[name] for name in ("none", "SegmentPooling B6-4")}
    monkeypatch.setattr(parts, "REDUCERS", chosen)
    none, pooling = parts.reducers(QUICK)
    assert none.share == 0
    assert pooling.share is not None
    assert 0 < pooling.share < 1
    assert pooling.gmacs < none.gmacs
    assert none.peak_mib > 0


def test_models_differ_in_nothing_but_the_reduction() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    plain, reduced = module(32, quick=True), module(32, KMedoids(6, 4, 49), quick=True)
    assert torch.equal(before, torch.get_rng_state())
    weights = plain.state_dict()
    assert weights.keys() == reduced.state_dict().keys()
    assert all(torch.equal(weights[name], weight) for name, weight in reduced.state_dict().items())


def test_clustering_itself_is_counted() -> None:
    """k-medoids of 4 segments of 147 tokens multiplies once for each pair of tokens and channel (and two more)."""
    model = module(32, KMedoids(6, 4, 49), text_layers=1, quick=True).eval()
    with torch.inference_mode():
        found = reducer_gmacs(model, videos(1, "cpu"))
    assert found == pytest.approx(4 * 147**2 * (64 + 2) / 1e9)


def test_an_lstm_is_counted() -> None:
    """4 gates of 64 channels, from 64 of the input and 64 of the state, for 4 videos of 12 segments."""
    by_name = {part.what.partition(",")[0]: part for part in parts.heads(QUICK)}
    similarity = 4 * 4 * 64
    assert by_name["seqLSTM"].gmacs == pytest.approx((4 * 12 * 4 * 64 * 128 + similarity) / 1e9)


def test_tokens_of_videos_have_the_size_asked_for() -> None:
    for size in clustering.QUICK_SIZES:
        tokens = clustering.video_tokens(size, QUICK)
        assert tokens.shape == (*size[:2], 64)
        assert tokens.isfinite().all()


def fake(monkeypatch: pytest.MonkeyPatch, *measured: Measured) -> None:
    monkeypatch.setattr(command, "MEASUREMENTS", {"distances": lambda plan: list(measured)})
    monkeypatch.setattr(command, "PARTS", {})


MISSED = Measured("a / b", "", Summary(3.0, 3.0, 3.0, 1), at_most=2.0)


def test_a_missed_bound_is_an_error_only_where_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, MISSED)
    run(tmp_path)
    assert "1 of 1 bounds missed" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        run(tmp_path, "--strict")
    assert exit.value.code == 1


def test_other_results_are_always_an_error_but_are_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clustering, "direct_kmedoids", lambda tokens, clusters, **_: torch.zeros(len(tokens), clusters))
    fake(monkeypatch, *clustering.against_direct(QUICK))
    with pytest.raises(SystemExit) as exit:
        run(tmp_path)
    assert exit.value.code == 1
    assert "medoids are other ones" in capsys.readouterr().err
    entries = json.loads(next(tmp_path.iterdir()).read_text())["measured"]
    assert [(entry["wrong"], entry["reached"], entry["ratio"]) for entry in entries] == [(True, False, None)] * 4


def test_short_memory_is_reported_and_not_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "available_memory", lambda _: 1.0)
    monkeypatch.setattr(training_step, "available_memory", lambda _: 1.0)
    direct, training = clustering.against_direct(Plan())[-1], training_step.against_none(Plan())[0]
    for entry in (direct, training):
        assert entry.ratio is None
        assert entry.reached is None
        assert entry.detail.startswith("needs ")
        assert entry.detail.endswith(" MiB, 1 are left")

    def out_of_memory(plan: Plan) -> list[Measured]:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(command, "MEASUREMENTS", {"encoder": out_of_memory, "distances": lambda plan: [MISSED]})
    monkeypatch.setattr(command, "PARTS", {})
    entries = run(tmp_path)["measured"]
    assert [(entry["group"], entry["ratio"] is None) for entry in entries] == [("encoder", True), ("a / b", False)]


def test_a_part_of_a_run_is_not_mixed_with_other_circumstances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, MISSED)
    run(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with pytest.raises(SystemExit, match=r"environment: .* there, .*ACTIVE.* now\n  -> measure everything"):
        run(tmp_path, "--only", "distances")
    run(tmp_path)  # a whole run replaces it


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch finds no GPU\n  -> leave DEVICE out"):
        run(tmp_path, "--device", "cuda")


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--repetitions", "0"], ["--quick=maybe"]])
def test_wrong_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
