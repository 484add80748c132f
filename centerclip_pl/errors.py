"""What a user can do wrong, and what to do next.

Every error of this module is meant to be read by a person: the command line prints its text alone, without a
traceback, and exits with status 2. Anything else that is raised is a defect of this package and keeps its traceback.
"""

from __future__ import annotations


class CenterCLIPError(Exception):
    """Base of all errors that a user can mend.

    Args:
        problem: what is wrong, with the value or file concerned.
        next_step: what to do about it; printed on a line of its own.
    """

    def __init__(self, problem: str, next_step: str | None = None) -> None:
        self.problem = problem
        self.next_step = next_step
        super().__init__(problem if next_step is None else f"{problem}\n  -> {next_step}")


class ConfigError(CenterCLIPError, ValueError):
    """An option, or a combination of options, that cannot work. Also a ``ValueError``."""


class DataError(CenterCLIPError):
    """Something about a dataset: a missing folder, a caption of an absent video, a table that cannot be read."""


class VideoError(DataError):
    """One video file that cannot be used.

    Args:
        path: the file.
        reason: a short clause, e.g. ``"has no video stream"``.
        next_step: what to do about it.
    """

    def __init__(self, path: object, reason: str, next_step: str | None = None) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}", next_step)

    def __reduce__(self) -> tuple[object, ...]:  # exceptions with their own signature need this to cross processes
        return (type(self), (self.path, self.reason, self.next_step))


class CheckpointError(CenterCLIPError):
    """Weights that cannot be found, read, or fitted to the model."""


class NonFiniteError(CenterCLIPError, ValueError):
    """NaN or infinity where a finite number is needed. Also a ``ValueError``."""
