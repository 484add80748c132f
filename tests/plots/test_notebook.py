from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.plots import heat_map
from centerclip_pl.plots.notebook import load_runs, plain_errors, show


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    """A shell of IPython of its own, which `get_ipython` returns."""
    shell = InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    return shell


def test_our_errors_are_their_message_and_others_keep_their_traceback(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_errors()
    ours = shell.run_cell("from centerclip_pl.errors import DataError\nraise DataError('no runs', 'train first')")
    assert isinstance(ours.error_in_exec, DataError)  # what comes after this cell is not run
    assert capsys.readouterr().out.strip() == "no runs\n  -> train first"
    theirs = shell.run_cell("1 / 0")
    assert isinstance(theirs.error_in_exec, ZeroDivisionError)
    assert "Traceback" in capsys.readouterr().out


@pytest.mark.usefixtures("shell")
def test_figures_are_shown_and_saved(grid: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    show(heat_map(grid), tmp_path / "figures" / "map")
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == ["map.pdf", "map.svg"]
    (picture,) = shown
    assert "<svg" in picture.data


def test_outside_of_a_notebook(grid: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    with pytest.raises(ConfigError, match="this is no notebook"):
        plain_errors()
    with pytest.raises(ConfigError, match="this is no notebook"):
        show(heat_map(grid), tmp_path / "map")
    assert not list(tmp_path.iterdir())


def test_one_protocol_is_taken_and_the_others_are_named(
    tmp_path: Path, write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"demo{seed}", seed=seed, skill=0.5 + seed / 10)
    write_run(tmp_path / "other", dataset="msvd", protocol="msvd-multi-caption")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "results.json").write_text("{")
    said = []
    monkeypatch.setattr("IPython.display.display", lambda markdown: said.append(markdown.data))
    assert len(load_runs(str(tmp_path))) == 2
    assert "**2 runs** of demo, test, protocol demo-200" in said[0]
    assert "left out: msvd, test, protocol msvd-multi-caption (1)" in said[0]
    assert "1 that cannot be read" in said[0]
    assert load_runs(str(tmp_path), "dataset == 'msvd'")["dataset"].tolist() == ["msvd"]
    with pytest.raises(DataError):
        load_runs(str(tmp_path), "seed == 7")
