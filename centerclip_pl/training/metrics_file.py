"""``metrics.csv`` on a disk that may be full or away for a while: rows wait, and none is cut off or lost."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from typing_extensions import override

from centerclip_pl.files import replacing


class PatientWriter(ExperimentWriter):
    """Lightning's writer of ``metrics.csv``, for which a disk that refuses is no reason to end a training.

    Rows that cannot be written are kept, and written with the next ones; standard error says so once, and again when
    they are there. A row is in the file whole or not at all, and a new column, for which the file is written anew,
    never costs the old rows.
    """

    _refused = False

    @override
    def save(self) -> None:
        """Writes the rows that have come since, as far as the system lets it."""
        if not self.metrics:
            return
        try:
            self._write()
        except OSError as error:
            if not self._refused:
                waits = "training goes on; the rows are kept in memory and tried again"
                _say(f"warning: {self.metrics_file_path} cannot be written: {error.strerror}; {waits}")
            self._refused = True
        else:
            if self._refused:
                _say(f"note: {self.metrics_file_path} is complete again")
            self._refused = False

    def _write(self) -> None:
        path = Path(self.metrics_file_path)
        path.parent.mkdir(parents=True, exist_ok=True)  # a run's folder that was removed meanwhile
        keys = sorted({*self.metrics_keys, *(key for row in self.metrics for key in row)})
        if path.is_file() and keys == self.metrics_keys:
            self._append(path)
        else:
            rows: list[dict[str, object]] = []
            if path.is_file():
                with path.open(newline="", encoding="utf-8") as file:
                    rows += csv.DictReader(file)
            with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, keys)
                writer.writeheader()
                writer.writerows([*rows, *self.metrics])
        self.metrics_keys = keys
        self.metrics = []

    def _append(self, path: Path) -> None:
        size = path.stat().st_size
        try:
            with path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.metrics_keys).writerows(self.metrics)
        except OSError:
            os.truncate(path, size)  # what did fit of them comes again
            raise


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
