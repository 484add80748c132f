"""Every notebook is executed on a small set of runs, and on runs that lack what it needs; and how they are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest

from centerclip_pl.cli.notebooks import Outcome, execute

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
NAMES = {
    "methods_pareto",
    "reproduce_tables",
    "seeds_and_significance",
    "segments_and_clusters",
    "what_is_kept",
    "where_to_cluster",
}
FEWER: dict[str, dict[str, Any]] = {
    "what_is_kept": {"COUNT": 4, "DRAWS": 20, "DEMO": "none"},
    **{name: {"RESAMPLES": 500} for name in NAMES - {"what_is_kept", "reproduce_tables"}},
}
"""Parameters that make a notebook short."""

every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_all_are_there() -> None:
    assert {path.stem for path in NOTEBOOKS} == NAMES


# How they are stored ------------------------------------------------------------------------------------------------


@every_notebook
def test_stored_without_outputs_and_traces_of_a_machine(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    content = nbformat.reads(text, as_version=4)
    nbformat.validate(content)
    assert content.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in content.cells:
        assert set(cell.metadata) <= {"tags"}
        assert "attachments" not in cell
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    for place in ("/home/", "/root/", "/work/", "/tmp/", "/Users/", "C:\\"):
        assert place not in text


@every_notebook
def test_one_cell_says_what_to_change(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.metadata.get("tags") for cell in code] == [["parameters"], *[None] * (len(code) - 1)]
    given: dict[str, Any] = {}
    exec(code[0].source, given)
    assert (given["RUNS"], given["FIGURES"]) == ("../runs", "figures")


# What they do -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def many_runs(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    """Segments by clusters, blocks and methods, three seeds each; and one run of a published row."""
    folder = tmp_path_factory.mktemp("many")
    settings: list[dict[str, Any]] = [
        {"segments": s, "clusters": k, "skill": 0.5 + 0.03 * s + 0.002 * k} for s in (2, 4) for k in (16, 48)
    ]
    settings += [{"after_block": 1, "skill": 0.6}, {"method": "baseline", "skill": 0.75}]
    settings += [{"method": "sparse", "skill": 0.55}]
    for number, setting in enumerate(settings):
        for seed in range(3):
            write_run(folder / f"{number}-{seed}", **setting, seed=seed, queries=60)
    published = {"dataset": "msrvtt", "protocol": "msrvtt-1ka", "backbone": "vit-b32", "clusters": 49, "after_block": 6}
    write_run(folder / "published", **published, queries=60, skill=0.43)
    return folder


def run(notebook: Path, runs: Path, tmp_path: Path) -> tuple[Outcome, nbformat.NotebookNode, Path]:
    figures = tmp_path / "figures"
    figures.mkdir()
    copy = tmp_path / "executed.ipynb"
    outcome = execute(notebook, copy, str(runs), figures, timeout=300, **FEWER.get(notebook.stem, {}))
    return outcome, nbformat.read(copy, as_version=4), figures


def outputs_of(executed: nbformat.NotebookNode, kind: str) -> list[Any]:
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs if output.output_type == kind]


# The others are executed on what a real sweep leaves, in test_on_a_sweep.py, which has all that they ask for.
RICHER = [path for path in NOTEBOOKS if path.stem not in ("segments_and_clusters", "what_is_kept")]


@pytest.mark.parametrize(
    "notebook",
    [
        # On a real sweep three of them are executed as well; seeds are in no sweep of one.
        pytest.param(path, id=path.stem, marks=[] if path.stem == "seeds_and_significance" else pytest.mark.soak)
        for path in RICHER
    ],
)
def test_on_runs_that_have_what_it_needs(notebook: Path, many_runs: Path, tmp_path: Path) -> None:
    outcome, executed, figures = run(notebook, many_runs, tmp_path)
    assert (outcome.failure, outcome.lacks) == (None, None)
    assert outputs_of(executed, "error") == []
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    drawn = sorted(figures.glob("*.svg"))
    assert len(drawn) == outcome.figures >= 1
    assert {path.name for path in figures.iterdir()} == {
        f"{path.stem}.{form}" for path in drawn for form in ("svg", "pdf")
    }
    for path in drawn:
        assert path.name.startswith(f"{notebook.stem}-")
        root = ElementTree.parse(path).getroot()
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10
        pdf = path.with_suffix(".pdf").read_bytes()
        assert pdf.startswith(b"%PDF-")
        assert pdf.rstrip().endswith(b"%%EOF")
    shown = [output for output in outputs_of(executed, "display_data") if "image/svg+xml" in output.data]
    assert len(shown) == len(drawn)
    # What they end with is computed from the runs: sentences, no leftovers of formatting.
    words = "".join(
        output.data.get("text/markdown", "")
        for kind in ("execute_result", "display_data")
        for output in outputs_of(executed, kind)
    )
    assert len(words) > 100
    assert "nan" not in words.lower().split()
    if notebook.stem == "reproduce_tables":
        assert "1 of 35 published rows were run; none of them as published" in words
        assert "not as published: the test split has 60 videos" in words


# One of no runs at all, and the three that ask for more than any run.
PARTICULAR = [path for path in NOTEBOOKS if path.stem not in ("what_is_kept", "methods_pareto")]


@pytest.mark.parametrize("notebook", PARTICULAR, ids=lambda path: path.stem)
def test_on_runs_that_lack_what_it_needs(
    notebook: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]
) -> None:
    runs = tmp_path_factory.mktemp("few")
    if notebook.stem != "reproduce_tables":  # that one is content with any run
        write_run(runs / "only", queries=20, method="baseline")
    outcome, executed, figures = run(notebook, runs, tmp_path)
    assert outcome.failure is None
    assert outcome.lacks is not None
    (error,) = outputs_of(executed, "error")
    (message,) = error.traceback
    assert message == error.evalue
    assert "\n  -> " in message  # what to do next
    assert "Traceback" not in message
    assert not list(figures.iterdir())
