"""`notebooks`: what is printed, what is kept, and how it ends when a notebook fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from centerclip_pl.cli.notebooks import notebooks_command
from centerclip_pl.errors import CenterCLIPError, ConfigError, DataError

WriteRun = Callable[..., Path]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_run: WriteRun) -> Path:
    """A folder with one run and no notebook yet."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "one", queries=10)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def notebook(folder: Path, name: str, *cells: str) -> Path:
    parameters = nbformat.v4.new_code_cell('RUNS = "../runs"\nFIGURES = "figures"', metadata={"tags": ["parameters"]})
    content = nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, cells)])
    content.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path = folder / "notebooks" / f"{name}.ipynb"
    nbformat.write(content, path)
    return path


FIGURE = """
from pathlib import Path
for form in ("svg", "pdf"):
    Path(FIGURES, f"{Path(RUNS).name}-picture.{form}").write_text("x")
Path("where").write_text(str(Path.cwd()))
"""
LACKS = """
from centerclip_pl.errors import DataError
from centerclip_pl.plots.notebook import plain_errors
plain_errors()
raise DataError("one block alone", "make sweep SWEEP=block")
"""


def test_a_line_each_and_the_failures_by_cell(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = [
        notebook(here, "a_good", FIGURE),
        notebook(here, "b_lacks", LACKS, "1 / 0"),
        notebook(here, "c_bad", "x = 1", "x / 0", "x"),
        notebook(here, "d_dies", "import os; os._exit(3)"),
    ]
    before = [path.read_bytes() for path in stored]
    with pytest.raises(CenterCLIPError) as caught:
        notebooks_command([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a_good: 1 figure (")
    assert lines[1] == "b_lacks: left out: one block alone -> make sweep SWEEP=block"
    assert lines[2] == "c_bad: FAILED in cell 3: ZeroDivisionError: division by zero"
    assert lines[3].startswith("d_dies: FAILED in cell 2: DeadKernelError")
    assert lines[4] == "executed copies in notebooks/executed, figures in notebooks/figures"
    assert caught.value.problem.startswith("2 of 4 notebooks failed: c_bad, cell 3: ZeroDivisionError")
    assert "d_dies, cell 2" in caught.value.problem
    assert caught.value.next_step == "the traceback is in notebooks/executed"
    assert [path.read_bytes() for path in stored] == before
    names = ("a_good", "b_lacks", "c_bad", "d_dies")
    assert {path.name for path in (here / "notebooks/executed").iterdir()} == {f"{name}.ipynb" for name in names}
    bad = nbformat.read(here / "notebooks/executed/c_bad.ipynb", as_version=4)
    (failed,) = [cell for cell in bad.cells if cell.source == "x / 0"]
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert (here / "notebooks/figures/runs-picture.svg").is_file()
    assert (here / "notebooks/where").read_text() == str(here / "notebooks")


@pytest.mark.soak
def test_what_the_runs_lack_is_no_failure_unless_they_lack_everything(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook(here, "a", "1")
    notebook(here, "b", LACKS)
    words = ["runs", "--figures", "f", "--executed", "e"]
    notebooks_command(words)
    assert capsys.readouterr().out.splitlines()[-1] == "executed copies in e, figures in f"
    with pytest.raises(CenterCLIPError, match="none of the 1 notebooks"):
        notebooks_command([*words, "--only", "b"])
    notebooks_command([*words, "--only", "b", "--only", "a"])
    assert [line[:2] for line in capsys.readouterr().out.splitlines()[-3:-1]] == ["b:", "a:"]


def test_mistakes_come_before_any_kernel(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no notebook in notebooks"):
        notebooks_command([])
    notebook(here, "segments", "1")
    with pytest.raises(ConfigError, match="no notebook 'segmnts'") as caught:
        notebooks_command(["--only", "segmnts"])
    assert "did you mean segments?" in str(caught.value)
    with pytest.raises(DataError, match="no such folder"):
        notebooks_command(["absent"])
    (here / "empty").mkdir()
    with pytest.raises(DataError, match=r"no results\.json"):
        notebooks_command(["empty"])
    (here / "file").touch()
    with pytest.raises(ConfigError, match="file/figures cannot be made"):
        notebooks_command(["--figures", "file/figures"])
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(ConfigError, match="cannot be executed") as caught:
        notebooks_command([])
    assert "centerclip-pl[notebooks]" in str(caught.value)
    assert not (here / "notebooks/executed").exists()
