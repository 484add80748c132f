"""Options with values that cannot work, named."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from centerclip_pl.errors import ConfigError


def require_positive(**options: float) -> None:
    """
    Raises:
        ConfigError: one of these is not positive.
    """
    for option, value in options.items():
        if not value > 0:
            raise ConfigError(f"{option}={value}: must be positive", "give a number above 0, or leave it out")


def require_one_of(choices: Sequence[str], **options: str) -> None:
    """
    Raises:
        ConfigError: one of these is none of the choices.
    """
    for option, value in options.items():
        if value not in choices:
            near = get_close_matches(str(value), choices, n=1)
            hint = f"did you mean {option}={near[0]}?" if near else f"e.g. {option}={choices[0]}"
            raise ConfigError(f"{option}={value!r}: must be one of {', '.join(choices)}", hint)


def require_writable(**options: str | Path | None) -> None:
    """Make sure, before anything that takes long, that files can be written. Nothing is left behind.

    Args:
        **options: the file that each option names; None: it names none.

    Raises:
        ConfigError: the folder of one of these does not exist or cannot be written, or there is something in the
            file's place that is no file.
    """
    for option, value in options.items():
        if value is None:
            continue
        file, next_step = Path(value), f"name another file: --{option}=FILE"
        try:
            if not file.parent.is_dir():
                what = "is not a folder" if file.parent.exists() else "does not exist"
                raise ConfigError(f"{option}={value}: the folder {file.parent} {what}", f"make it, or {next_step}")
            if file.is_dir():
                raise ConfigError(f"{option}={value}: is a folder, not a file", next_step)
            if file.exists() and not file.is_file():  # a device would be replaced by a file
                raise ConfigError(f"{option}={value}: is not an ordinary file", next_step)
            # Tried, as permissions do not tell of full disks and of file systems that may only be read.
            with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", suffix=".part"):
                pass
        except OSError as error:
            raise ConfigError(f"{option}={value}: cannot be written: {error.strerror or error}", next_step) from error
