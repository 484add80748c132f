from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import centerclip_pl
from centerclip_pl import cli
from centerclip_pl.cli import COMMANDS, main
from centerclip_pl.errors import CenterCLIPError, ConfigError, DataError, VideoError


def use(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | None) -> list[list[str]]:
    """A command ``probe`` that ends in this way; returns the words that it gets."""
    got: list[list[str]] = []

    def probe(words: list[str]) -> None:
        got.append(words)
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(cli, "probe", probe, raising=False)
    monkeypatch.setitem(COMMANDS, "probe", ("centerclip_pl.cli:probe", "a command for this test"))
    return got


def fail(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must end with status 2; returns what it says."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    return output.err


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_lists_all_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    output = capsys.readouterr().out
    assert output.startswith("usage: centerclip COMMAND")
    listed = [line.split()[0] for line in output.splitlines() if line.startswith("  ")]
    assert listed == list(COMMANDS)
    assert {"train", "eval", "fit", "validate", "test", "predict", "show-tokens"} <= set(listed)


@pytest.mark.parametrize("word", ["--version", "version"])
def test_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([word])
    assert capsys.readouterr().out == f"{centerclip_pl.__version__}\n"


def test_every_command_exists() -> None:
    import importlib

    for where, what in COMMANDS.values():
        module, _, name = where.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
        assert what


@pytest.mark.parametrize(
    ("word", "hint"), [("tset", "did you mean `test`?"), ("xyzzy", "the commands are train, eval")]
)
def test_unknown_command(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = fail([word], capsys)
    assert message.startswith(f"error: there is no command '{word}'\n")
    assert hint in message


def test_words_go_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    got = use(monkeypatch, None)
    main(["probe", "--a=1", "b"])
    monkeypatch.setattr(sys, "argv", ["centerclip", "probe", "c"])
    main()
    assert got == [["--a=1", "b"], ["c"]]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (CenterCLIPError("it is wrong"), "error: it is wrong\n"),
        (ConfigError("option is 3", "make it 4"), "error: option is 3\n  -> make it 4\n"),
        (DataError("no such folder", "put it there"), "error: no such folder\n  -> put it there\n"),
        (VideoError("a.mp4", "is empty", "fetch it"), "error: a.mp4: is empty\n  -> fetch it\n"),
    ],
)
def test_a_mistake_is_one_message(
    mistake: CenterCLIPError, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, mistake)
    assert fail(["probe"], capsys) == message


@pytest.mark.parametrize("defect", [RuntimeError("broken"), ValueError("broken"), KeyError("broken")])
def test_a_defect_keeps_its_traceback(defect: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, defect)
    with pytest.raises(type(defect), match="broken") as caught:
        main(["probe"])
    assert caught.value is defect


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    message = fail(["demo-data", "--bogus=1"], capsys)
    assert "--bogus" in message
    assert "centerclip demo-data --help" in message


def test_the_process_itself(tmp_path: Path) -> None:
    """Status and streams as a shell sees them; and no command waits for torch before it says that it does not exist."""
    code = "import sys; from centerclip_pl.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    for start in (["-m", "centerclip_pl"], ["-c", code]):
        done = subprocess.run(
            [sys.executable, *start, "tarin"], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == "error: there is no command 'tarin'\n  -> did you mean `train`?\n"
