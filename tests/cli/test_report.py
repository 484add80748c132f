from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip_pl.cli import main

WriteRun = Callable[..., Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_run(folder / "runs" / "a", method="baseline", queries=20)
    write_run(folder / "runs" / "b", segments=2, skill=0.5, queries=20)
    return folder


def fail(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["report", *words])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


def test_a_page_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)  # the default source is runs
    output = tmp_path / "page.html"
    main(["report", "-o", str(output), "--title=Mine & yours", "--resamples=200", "--confidence=0.9"])
    assert capsys.readouterr().out.startswith(f"{output}: 2 runs, ")
    text = output.read_text(encoding="utf-8")
    assert "<title>Mine &amp; yours</title>" in text
    assert "90 % interval over queries" in text
    assert "Worse than the baseline" in text or "Cannot be told from the baseline" in text


def test_conditions_pick_runs_and_baseline(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    words = [str(folder), "-o", str(output), "--resamples=200"]
    main(["report", *words, "--where", "method == 'kmedoids'", "--baseline", "segments == 2"])
    text = output.read_text(encoding="utf-8")
    assert "1 run of 1 protocol" in text
    assert "There is no baseline" not in text


def test_bad_runs_end_it_or_are_left_out(
    tmp_path: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "good", queries=20)
    write_run(tmp_path / "bad", queries=20)
    (tmp_path / "bad" / "results.json").write_text('{"schema_version": 1')
    output = tmp_path / "page.html"
    assert str(tmp_path / "bad") in fail([str(tmp_path), "-o", str(output)], capsys)
    assert not output.exists()
    main(["report", str(tmp_path), "-o", str(output), "--on_bad_run=skip", "--resamples=200"])
    assert f"left out: {tmp_path / 'bad'}" in capsys.readouterr().err
    assert "1 run could not be read" in output.read_text(encoding="utf-8")


def test_what_is_no_report_is_not_replaced(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "notes.html"
    output.write_text("<p>mine</p>")
    assert "--force" in fail([str(folder), "-o", str(output)], capsys)
    assert output.read_text() == "<p>mine</p>"
    main(["report", str(folder), "-o", str(output), "--force", "--resamples=200"])
    assert "mine" not in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bseline=x"], "did you mean --baseline?"),
        (["-o", "page.pdf"], "a report is an HTML file"),
        (["--confidence=95"], "must be between 0 and 1"),
        (["--confidence=high"], "--confidence"),
        (["--resamples=3"], "too few"),
        (["--where", "segments >= 99"], "none of the 2 runs"),
        (["--where", "segmnts == 2"], "segments"),
        (["--baseline", "segmnts == 2"], "segments"),
        (["--metric=t2v/R@3"], "has this metric"),
    ],
)
def test_mistakes_are_one_message(
    words: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fail([str(folder), *words], capsys)
    assert list(tmp_path.iterdir()) == []


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "results.json" in fail([str(tmp_path), "-o", str(tmp_path / "r.html")], capsys)
    assert list(tmp_path.iterdir()) == []


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", "--help"])
    assert stopped.value.code == 0
    assert "--baseline" in capsys.readouterr().out
