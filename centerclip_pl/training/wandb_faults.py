"""W&B may fail in any of its calls; a training does not, and what it has logged is not lost."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from centerclip_pl.errors import CenterCLIPError

if TYPE_CHECKING:
    import wandb

_told: set[str] = set()  # ids of runs


class _TooLongError(Exception):
    """W&B does not answer."""


def in_time(call: Callable[[], object], seconds: float, what: str) -> None:
    """Calls, and goes on after so many seconds whether it has returned or not.

    Args:
        call: what may wait for a server for ever; left alone then, in a thread that ends with the process.
        seconds: how long it may.
        what: for the message.

    Raises:
        Exception: what the call raised, or that it takes too long.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True, name="wandb")
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if thread.is_alive():
        raise _TooLongError(f"{what} was not sent within {seconds:.0f} s")


@contextlib.contextmanager
def surviving(run: wandb.Run, last: bool = False) -> Iterator[None]:
    """Turns whatever W&B raises into one line on standard error, which says where the figures are.

    Args:
        run: of W&B.
        last: the run ends here; so W&B's process, which may hang, is let go of as well.
    """
    try:
        yield
    except CenterCLIPError:
        raise
    except Exception as error:
        if last or run.id not in _told:
            _told.add(run.id)
            reason = "it did not send everything in time" if isinstance(error, TimeoutError) else _short(error)
            folder = _shown(Path(run.dir).parent)
            say(f"warning: W&B: {reason}. metrics.csv has all figures; W&B's own, as far as they go, lie in {folder}")
            say(f"  -> to upload them: wandb sync {folder}")
        if last:
            _let_go()


def say(line: str) -> None:
    """A line on standard error."""
    print(line, file=sys.stderr, flush=True)


def _let_go() -> None:
    """Otherwise W&B would wait for its process, or fail for its lack, when Python ends."""
    import wandb

    def quietly() -> None:
        with contextlib.suppress(Exception):
            wandb.teardown(exit_code=1)

    with contextlib.suppress(Exception):
        in_time(quietly, 5.0, "")


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    said = text[0].rstrip(".") if text else ""
    return said if isinstance(error, _TooLongError) else f"{type(error).__name__}: {said}".rstrip(": ")


def _shown(folder: Path) -> Path:
    with contextlib.suppress(ValueError):
        return folder.relative_to(Path.cwd())
    return folder
