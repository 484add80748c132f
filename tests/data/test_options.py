from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from centerclip_pl.data.options import require_one_of, require_positive, require_writable
from centerclip_pl.errors import ConfigError


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan")])
def test_numbers_must_be_positive(value: float) -> None:
    require_positive(fine=1, small=0.1)
    with pytest.raises(ConfigError, match=rf"some={value}: must be positive\n.*above 0"):
        require_positive(fine=1, some=value)


def test_one_of_some_words() -> None:
    require_one_of(("error", "drop"), policy="drop")
    with pytest.raises(ConfigError, match=r"policy='drpo': must be one of error, drop\n.*did you mean policy=drop\?"):
        require_one_of(("error", "drop"), policy="drpo")
    with pytest.raises(ConfigError, match=r"policy='x': must be one of error, drop\n.*e\.g\. policy=error"):
        require_one_of(("error", "drop"), policy="x")


def test_files_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there.csv").write_text("kept")
    monkeypatch.chdir(tmp_path)
    require_writable(
        report=tmp_path / "new.csv", manifest=str(tmp_path / "there.csv"), json="beside.json", picture=None
    )
    assert (tmp_path / "there.csv").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]  # nothing is left behind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent/a.csv", "absent does not exist"),
        ("absent/deeper/a.csv", "deeper does not exist"),
        ("file/a.csv", "file is not a folder"),
        ("folder", "is a folder, not a file"),
        ("", "is a folder, not a file"),
        ("pipe", "is not an ordinary file"),
        ("a" * 300, "cannot be written"),
    ],
)
def test_files_that_cannot_be_written(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=f"report=.*{message}") as caught:
        require_writable(report=tmp_path / name)
    assert "--report=FILE" in str(caught.value.next_step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
