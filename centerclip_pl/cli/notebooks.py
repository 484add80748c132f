"""``notebooks``: executes the notebooks on some runs, without a browser."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from centerclip_pl.errors import CenterCLIPError, ConfigError

_DESCRIPTION = """Executes every notebook of a folder on some runs and keeps the executed copies and the figures. A
notebook that the runs are not enough for (one that compares blocks, of runs that all cluster after the same one) ends
with a message that says which runs it needs; that is no failure unless it happens to all of them."""
_KERNEL = "python3"
_INSTALL = "install what they need: pip install 'centerclip-pl[notebooks]'"


@dataclass(frozen=True)
class Outcome:
    """How the execution of a notebook ended."""

    name: str
    seconds: float
    figures: int
    """Files that are new or written again, of each form one."""
    lacks: str | None = None
    """What the runs lack for it; None: they have all it needs."""
    failure: str | None = None
    """The cell that failed and how; None: it did not fail."""

    def line(self) -> str:
        """One line for the terminal."""
        if self.failure is not None:
            return f"{self.name}: FAILED in {self.failure}"
        if self.lacks is not None:
            return f"{self.name}: left out: {self.lacks}"
        return f"{self.name}: {self.figures} figure{'' if self.figures == 1 else 's'} ({self.seconds:.0f} s)"


def notebooks_command(words: list[str]) -> None:
    """Executes notebooks: ``notebooks [RUNS] [--only NAME ...] [--notebooks FOLDER] [--figures F] [--executed F]``.

    Args:
        words: behind ``centerclip notebooks``.

    Raises:
        ConfigError: there is no such notebook, or papermill is not installed.
        DataError: there are no runs.
        CenterCLIPError: a notebook failed; the message names it and the cell. The others are executed all the same.
    """
    options = _parser().parse_args(words)
    folder = Path(options.notebooks)
    chosen = _choose(folder, options.only)
    _require_papermill()
    from centerclip_pl.runs import read_runs

    source = options.runs if options.runs.startswith("wandb:") else str(Path(options.runs).resolve())
    read_runs(source, on_bad="skip")  # says once, and before a kernel starts, what is wrong about the place
    figures = Path(options.figures or folder / "figures").resolve()
    executed = Path(options.executed or folder / "executed").resolve()
    for place in (figures, executed):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{place} cannot be made: {error.strerror}", "name another folder") from error
    outcomes = []
    for notebook in chosen:
        outcomes.append(execute(notebook, executed / notebook.name, source, figures, timeout=options.timeout))
        print(outcomes[-1].line(), flush=True)
    print(f"executed copies in {_shown(executed)}, figures in {_shown(figures)}", flush=True)
    _report(outcomes, executed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="centerclip notebooks", allow_abbrev=False, description=_DESCRIPTION)
    parser.add_argument("runs", nargs="?", default="runs", help="a folder of runs, or wandb:ENTITY/PROJECT")
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", help="these notebooks alone")
    parser.add_argument("--notebooks", default="notebooks", help="the folder of the notebooks")
    parser.add_argument("--figures", help="where the figures go; default: figures in that folder")
    parser.add_argument("--executed", help="where the executed copies go; default: executed in that folder")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that a cell may take")
    return parser


def execute(notebook: Path, copy: Path, runs: str, figures: Path, *, timeout: int = 3600, **parameters: Any) -> Outcome:
    """Executes a notebook in a kernel of its own, in the notebook's folder.

    Args:
        notebook: the file; its cell tagged ``parameters`` has ``RUNS`` and ``FIGURES``.
        copy: where the executed copy goes; it appears when the notebook has ended, however it ended.
        runs: ``RUNS``.
        figures: ``FIGURES``.
        timeout: seconds that a cell may take.
        **parameters: further ones.
    """
    import nbformat
    import papermill

    # papermill tells of every cell; what matters is in the copy.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    logging.getLogger("papermill.translators").setLevel(logging.CRITICAL)
    start, before = time.monotonic(), _written(figures)
    lacks = failure = None
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".part-") as part:
        output = Path(part) / copy.name
        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters={"RUNS": runs, "FIGURES": str(figures), **parameters},
                cwd=notebook.parent,
                kernel_name=_KERNEL,
                progress_bar=False,
                execution_timeout=timeout,
                # Else each kernel warns that it listens on a TCP port, which is one of this machine alone.
                extra_arguments=["--IPKernelApp.log_level=40"],
            )
        except papermill.PapermillExecutionError as error:
            message = error.evalue.splitlines()[0] if error.evalue else ""
            if error.ename == "DataError":  # what `plain_errors` has put below the cell
                lacks = " ".join(error.evalue.split()) or "the runs are not enough"
            else:
                failure = f"cell {_stored(notebook, error.source, nbformat)}: {error.ename}: {message}".rstrip(": ")
        except Exception as error:  # a kernel that died, a cell that took too long, a file that is no notebook
            first = (str(error).strip().splitlines() or [""])[0]
            failure = f"{_last_cell(notebook, output, nbformat)}: {type(error).__name__}: {first}"
        if output.is_file():
            os.replace(output, copy)
    after = _written(figures)
    new = {path.stem for path, when in after.items() if before.get(path) != when}
    return Outcome(notebook.stem, time.monotonic() - start, len(new), lacks, failure)


def _stored(notebook: Path, source: str, nbformat: Any) -> int:
    """The number, from 1, of a cell in the stored notebook; the executed copy has cells of papermill's besides."""
    sources = [cell.source for cell in nbformat.read(notebook, as_version=4).cells]
    return sources.index(source) + 1 if source in sources else 0


def _last_cell(notebook: Path, output: Path, nbformat: Any) -> str:
    """The cell that was at work when the execution broke off."""
    if not output.is_file():
        return "the file"
    cells = [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
    begun = [cell for cell in cells if cell.metadata.get("papermill", {}).get("status") not in (None, "pending")]
    return f"cell {_stored(notebook, begun[-1].source, nbformat)}" if begun else "the start"


def _written(figures: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in figures.iterdir() if path.suffix in (".svg", ".pdf")}


def _choose(folder: Path, names: Sequence[str] | None) -> list[Path]:
    there = {path.stem: path for path in sorted(folder.glob("*.ipynb"))} if folder.is_dir() else {}
    if not there:
        raise ConfigError(
            f"there is no notebook in {folder}",
            "run the command in the repository's folder, or name the notebooks' one: --notebooks=FOLDER",
        )
    for name in names or ():
        if name.removesuffix(".ipynb") not in there:
            near = get_close_matches(name, there, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"there is no notebook {name!r} in {folder}", f"{hint}there are {', '.join(there)}")
    return [there[name.removesuffix(".ipynb")] for name in names] if names else list(there.values())


def _require_papermill() -> None:
    try:
        import ipykernel  # noqa: F401
        import papermill  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"notebooks cannot be executed here: {error}", _INSTALL) from error


def _report(outcomes: Sequence[Outcome], executed: Path) -> None:
    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    if failed:
        names = "; ".join(f"{outcome.name}, {outcome.failure}" for outcome in failed)
        raise CenterCLIPError(
            f"{len(failed)} of {len(outcomes)} notebooks failed: {names}", f"the traceback is in {_shown(executed)}"
        )
    if all(outcome.lacks is not None for outcome in outcomes):
        raise CenterCLIPError(
            f"none of the {len(outcomes)} notebooks could be shown with these runs",
            "the lines above say what they need",
        )


def _shown(path: Path) -> str:
    """From here, where it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
