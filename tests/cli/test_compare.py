from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip_pl.cli import main

WriteRun = Callable[..., Path]
FAST = ["--resamples=300"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(folder / "kmedoids" / str(seed), seed=seed, skill=0.5 + 0.01 * seed, queries=80)
        write_run(folder / "baseline" / str(seed), seed=seed, skill=0.9, queries=80, method="baseline")
    return folder


def _fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    return output.err


def test_two_folders_of_seeds(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(runs / "kmedoids"), str(runs / "baseline"), *FAST])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("B is better by ")
    assert "This counts other videos and other seeds (2 of A, 2 of B)." in lines[0]
    assert "demo, test, demo-200: 80 texts, 80 videos" in lines
    assert any(
        line.startswith("A: method=kmedoids, after_block=2, segments=4, clusters=48; seeds 0, 1; ") for line in lines
    )
    row = next(line for line in lines if line.startswith("t2v/R@1"))
    assert row.endswith("B")
    assert " ± " in row
    assert any(line.startswith("GMACs a video") for line in lines)
    assert any(line.startswith("note: the spread over seeds") for line in lines)


def test_conditions_on_one_source_say_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(runs / "kmedoids"), str(runs / "baseline"), *FAST])
    by_folder = capsys.readouterr().out
    main(["compare", str(runs), "--a", "method == 'kmedoids'", "--b", "method == 'baseline'", *FAST])
    assert capsys.readouterr().out == by_folder


def test_single_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(runs / "baseline/0"), str(runs / "kmedoids/0"), "--metric=v2t/MdR", *FAST])
    output = capsys.readouterr().out
    assert "not for the methods" in output
    main(
        [
            "compare",
            str(runs),
            "--a",
            "method == 'kmedoids' and seed == 0",
            "--b",
            "method == 'baseline' and seed == 1",
            *FAST,
        ]
    )
    assert "exact McNemar p " in capsys.readouterr().out


def test_markdown_and_json(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    main(["compare", str(runs / "kmedoids"), str(runs / "baseline"), "--markdown", "--json", str(file), *FAST])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("**B is better by ")
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "|  | A | B | B - A | 95 % interval | p | better |"
    assert all(line.count("|") == 8 for line in table[:12])
    content = json.loads(file.read_text())
    assert content["verdict"] == "B is better"
    assert lines[0] == f"**{content['summary']}**"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json"]


def test_the_same_run_by_two_names(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(runs / "kmedoids/0"), str(runs / "baseline/../kmedoids/0"), *FAST])
    assert capsys.readouterr().out.startswith("A and B are the same runs")


def test_mixed_settings_say_what_to_do(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _fails(capsys, str(runs), str(runs / "baseline"), *FAST)
    assert "A mixes 2 settings: " in message
    assert "--a" in message


def test_mistakes(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(runs / "kmedoids"), str(runs / "baseline")
    assert "nothing to compare" in _fails(capsys)
    assert "1 source is given" in _fails(capsys, a)
    assert "3 sources are given" in _fails(capsys, a, b, b)
    assert "did you mean --resamples?" in _fails(capsys, a, b, "--resample=3")
    assert "confidence is 95.0" in _fails(capsys, a, b, "--confidence=95")
    assert "resamples is 3" in _fails(capsys, a, b, "--resamples=3")
    assert "no such folder" in _fails(capsys, a, str(tmp_path / "absent"))
    assert "none of the 2 runs" in _fails(capsys, a, b, "--a=seed == 7")
    assert "there is no column 'sed'" in _fails(capsys, a, b, "--a=sed == 7")
    assert "did you mean t2v/R@1" in _fails(capsys, a, b, "--metric=t2w/R@1", *FAST)
    assert "is a folder" in _fails(capsys, a, b, f"--json={tmp_path}")
    assert "is no folder" in _fails(capsys, a, b, f"--json={tmp_path}/absent/x.json")
    assert list(tmp_path.iterdir()) == []


def test_bad_runs(runs: Path, tmp_path: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed=seed, queries=80, method="pooling")
    (tmp_path / "1" / "results.json").write_text("{")
    assert "1/results.json" in _fails(capsys, str(tmp_path), str(runs / "baseline"), *FAST)
    main(["compare", str(tmp_path), str(runs / "baseline"), "--on_bad_run=skip", *FAST])
    output = capsys.readouterr()
    assert "A has one seed" in output.out
    assert output.err.startswith("left out: ")


def test_needs_no_torch(runs: Path) -> None:
    program = (
        "import sys; from centerclip_pl.cli import main; "
        f"main(['compare', {str(runs / 'kmedoids')!r}, {str(runs / 'baseline')!r}, '--resamples=100']); "
        "print(*(name for name in ('torch', 'lightning', 'wandb', 'matplotlib') if name in sys.modules), sep=',')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_markdown_shows_names_as_they_are(
    tmp_path: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("<img src=x>", 0), ("*b*", 1)):
        write_run(tmp_path / name, seed=seed, queries=20)
    main(["compare", str(tmp_path / "<img src=x>"), str(tmp_path / "*b*"), "--markdown", *FAST])
    output = capsys.readouterr().out
    assert "\\<img src=x\\>" in output
    assert "\\*b\\*" in output
    assert "<img" not in output.replace("\\<img", "")
