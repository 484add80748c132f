"""Options with values that cannot work, named."""

from __future__ import annotations

from collections.abc import Sequence

from centerclip_pl.errors import ConfigError


def require_positive(**options: float) -> None:
    """
    Raises:
        ConfigError: one of these is not positive.
    """
    for option, value in options.items():
        if not value > 0:
            raise ConfigError(f"{option}={value}: must be positive")


def require_one_of(choices: Sequence[str], **options: str) -> None:
    """
    Raises:
        ConfigError: one of these is none of the choices.
    """
    for option, value in options.items():
        if value not in choices:
            raise ConfigError(f"{option}={value!r}: must be one of {', '.join(choices)}")
