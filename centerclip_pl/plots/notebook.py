"""What the notebooks need besides figures: errors as one message, and figures that are shown and saved at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from centerclip_pl.errors import CenterCLIPError, ConfigError, DataError
from centerclip_pl.plots.style import save, svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf")


def plain_errors() -> None:
    """From now on, errors that a user can mend appear as their message, without a traceback, in this notebook.

    The cell still fails, so that what comes after it is not run, neither in Jupyter nor by papermill.

    Raises:
        ConfigError: this is no notebook.
    """
    _shell().set_custom_exc((CenterCLIPError,), _show_message)


def _show_message(
    shell: Any, kind: type[BaseException], error: BaseException, traceback: TracebackType, tb_offset: int | None = None
) -> list[str]:
    message = [str(error)]
    shell._showtraceback(kind, error, message)  # what shell.showtraceback ends with, here without the stack
    return message


def show(figure: Figure, path: str | Path) -> None:
    """Saves a figure as SVG and PDF, and shows it below the cell.

    Args:
        figure: what to show.
        path: without an ending; its folder is made.

    Raises:
        ConfigError: the place cannot be written, or this is no notebook.
    """
    _shell()
    from IPython.display import SVG, display

    save(figure, path, FORMATS)
    display(SVG(svg(figure)))


def load_runs(source: str | Sequence[str], where: str = "") -> pd.DataFrame:
    """The runs that a notebook is about, and below the cell what they are.

    Args:
        source: as for :func:`centerclip_pl.runs.read_runs`.
        where: which of them, as ``centerclip runs --where`` takes it; empty: all.

    Returns:
        The runs of one dataset, split and protocol: of several, the one with the most runs, and the cell says which are
        left out. So do runs that cannot be read.

    Raises:
        DataError: there is no run.
        ConfigError: a condition that cannot be understood.
    """
    from IPython.display import Markdown, display

    from centerclip_pl.runs import read_runs, split_protocols

    runs = read_runs(source, on_bad="skip")
    skipped = runs.attrs.get("skipped", [])
    if where:
        from centerclip_pl.runs.filtering import select

        runs = select(runs, where)
    parts = split_protocols(runs)
    if not parts:
        raise DataError(f"no run fulfils {where}", "change WHERE in the first cell of code")
    label = max(parts, key=lambda name: len(parts[name]))
    lines = [f"**{len(parts[label])} runs** of {label}."]
    others = [f"{name} ({len(part)})" for name, part in parts.items() if name != label]
    if others:
        lines.append(f"Runs of other tests are left out: {'; '.join(others)}. `WHERE` chooses among them.")
    if skipped:
        lines.append(f"{len(skipped)} that cannot be read are left out: {'; '.join(skipped[:3])}")
    display(Markdown("  \n".join(lines)))
    return parts[label]


def _shell() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        get_ipython = None
    shell = None if get_ipython is None else get_ipython()
    if shell is None:
        raise ConfigError("this is no notebook", "call it in a cell of Jupyter: pip install 'centerclip-pl[notebooks]'")
    return shell
