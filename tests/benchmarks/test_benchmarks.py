"""What the benchmarks compute with: ratios, peaks of memory, the direct formulation, files and tables."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks import clustering  # noqa: E402
from benchmarks.__main__ import bench  # noqa: E402
from benchmarks.direct import direct_kmedoids  # noqa: E402
from benchmarks.memory import MEBIBYTE, highest_sum, peak_memory  # noqa: E402
from benchmarks.report import Measured, Part, markdown, measured_rows, part_rows, write  # noqa: E402
from benchmarks.timing import Ratio, Times, measure  # noqa: E402
from centerclip_pl.clustering import kmedoids  # noqa: E402


def test_things_are_run_in_turn_and_timed() -> None:
    now, order = 0.0, []

    def takes(name: str, seconds: float) -> object:
        def thing() -> None:
            nonlocal now
            order.append(name)
            now += seconds

        return thing

    slow, fast = measure([takes("a", 3.0), takes("b", 0.5)], 4, warmup=1, clock=lambda: now)  # type: ignore[list-item]
    assert order == ["a", "b"] * 5
    assert slow.seconds == (3.0,) * 4
    assert fast.median_ms == 500.0
    assert Ratio.of(slow, fast) == Ratio(6.0, 6.0, 6.0, 4)


def test_ratios_are_taken_within_a_turn() -> None:
    found = Ratio.of(Times((2.0, 30.0, 4.0, 8.0, 10.0)), Times((1.0, 10.0, 1.0, 4.0, 1.0)))
    assert (found.median, found.low, found.high, found.repetitions) == (3.0, 2.0, 4.0, 5)
    assert Ratio.of(Times((3.0,)), Times((2.0,))) == Ratio(1.5, 1.5, 1.5, 1)


def test_the_highest_sum() -> None:
    assert highest_sum([]) == 0
    assert highest_sum([5, -2, 4, -7, 3]) == 7
    assert highest_sum([-5, 3]) == 0  # what was there before and goes does not count


def test_peak_memory_is_what_tensors_hold_at_once() -> None:
    numbers = MEBIBYTE // 4  # float32

    def one_after_another() -> None:
        for _ in range(3):
            torch.empty(8 * numbers)

    def at_once() -> list[torch.Tensor]:
        return [torch.empty(8 * numbers) for _ in range(3)]

    assert peak_memory(one_after_another) == pytest.approx(8, abs=0.1)
    assert peak_memory(at_once) == pytest.approx(24, abs=0.1)


@pytest.mark.parametrize("kind", ["random", "ties", "identical"])
def test_the_direct_formulation_finds_the_same_medoids(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for batch, count, clusters in ((3, 40, 9), (2, 60, 1), (1, 30, 30)):
        tokens = {
            "random": torch.randn(batch, count, 8, generator=generator),
            "ties": torch.randint(-1, 2, (batch, count, 3), generator=generator).float(),
            "identical": torch.ones(batch, count, 4),
        }[kind]
        assert torch.equal(direct_kmedoids(tokens, clusters), kmedoids(tokens, clusters).medoids)


def test_the_sizes_are_those_of_the_paper() -> None:
    assert all(count in (3 * 49, 4 * 49, 3 * 196) for _, count, _ in clustering.SIZES)


def measured(what: str, ratio: float, **bounds: float) -> Measured:
    return Measured("group", what, Ratio(ratio, ratio - 0.1, ratio + 0.1, 5), detail="1 ms / 2 ms", **bounds)


def test_results_are_written_and_shown(tmp_path: Path) -> None:
    first = [measured("a", 1.5, at_most=2.0), measured("b", 1.2, at_least=1.4, possible=1.6), measured("c", 3.0)]
    path = write("cpu", first, [Part("head", "meanP", 1.0, 2.0, 0.5, 10.0, None)], tmp_path)
    content = json.loads(path.read_text())
    assert [entry["reached"] for entry in content["measured"]] == [True, False, None]
    assert content["versions"]["torch"] == torch.__version__
    table = markdown(measured_rows(content))
    assert "| group: b | 1.20 (missed) | 1.10 to 1.30 | at least 1.40 | 1.60 | 1 ms / 2 ms |" in table
    assert "| head: meanP | 1.0 | 2.0 | 0.50 | 10 |  |" in markdown(part_rows(content))

    again = write("cpu", [measured("b", 1.5, at_least=1.4)], [], tmp_path)  # the others stay
    assert again == path
    content = json.loads(path.read_text())
    assert {entry["what"]: entry["ratio"]["median"] for entry in content["measured"]} == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert len(content["parts"]) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(clustering, "SIZES", ((2, 30, 5), (1, 40, 7)))
    monkeypatch.setattr(clustering, "video_tokens", clustering.random_tokens)  # no large transformer for them
    bench(only=["distances"], repetitions=2, folder=tmp_path)
    (file,) = tmp_path.glob("*.json")
    assert len(json.loads(file.read_text())["measured"]) == 4
    assert str(file) in capsys.readouterr().out.replace("\n", "")
    bench(table=file)
    assert capsys.readouterr().out.count("| k-medoids / torch.cdist: ") == 4
    monkeypatch.setattr(clustering, "kmedoids", lambda tokens, k: [torch.cdist(tokens, tokens) for _ in range(9)])
    with pytest.raises(SystemExit):
        bench(only=["distances"], repetitions=3, folder=tmp_path, strict=True)
    assert "4 of 4 bounds missed" in capsys.readouterr().out


def test_a_gpu_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    words = [sys.executable, "-m", "benchmarks", "--device=cuda"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("error: device is cuda, but torch finds no GPU")


def test_the_committed_results_can_be_shown() -> None:
    files = list((REPOSITORY / "benchmarks" / "results").glob("*.json"))
    assert files
    for file in files:
        content = json.loads(file.read_text())
        for rows in (measured_rows(content), part_rows(content)):
            assert len({len(row) for row in rows}) == 1
        names = [(entry["group"], entry["what"]) for entry in itertools.chain(content["measured"], content["parts"])]
        assert len(names) == len(set(names))
