"""Results of a run: one file a device, and tables of it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

import centerclip_pl
from benchmarks.timing import Ratio
from centerclip_pl.files import replacing

RESULTS = Path(__file__).parent / "results"
_ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


@dataclass(frozen=True)
class Measured:
    """A ratio, and what it should be."""

    group: str
    what: str
    ratio: Ratio
    at_most: float | None = None
    at_least: float | None = None
    possible: float | None = None
    """What the counted operations alone allow."""
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to reach."""
        if self.at_most is not None:
            return self.ratio.median <= self.at_most
        return None if self.at_least is None else self.ratio.median >= self.at_least


@dataclass(frozen=True)
class Part:
    """What a reducer or a head costs; no bound."""

    group: str
    what: str
    forward_ms: float
    both_ms: float | None
    """Forward and backward; None where it is not measured."""
    gmacs: float
    peak_mib: float
    share: float | None
    """Of the encoder's time that is spent in reducers."""


def device_name(device: str) -> str:
    """Of the machine's processor or GPU."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    try:
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    name = names[0].strip() if names else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def write(device: str, measured: list[Measured], parts: list[Part], folder: Path = RESULTS) -> Path:
    """Writes ``<device>.json``; measurements that an earlier run left there and this one did not make stay."""
    name = device_name(device)
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    new = [{**asdict(m), "reached": m.reached} for m in measured]
    content: dict[str, Any] = {
        "device": name,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "versions": {
            "centerclip_pl": centerclip_pl.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "environment": {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ},
        "measured": new,
        "parts": [asdict(part) for part in parts],
    }
    if path.is_file():
        before = json.loads(path.read_text())
        for kind in ("measured", "parts"):
            made = {(entry["group"], entry["what"]) for entry in content[kind]}
            kept = [entry for entry in before.get(kind, []) if (entry["group"], entry["what"]) not in made]
            content[kind] = kept + content[kind]
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=RESULTS.parent
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def measured_rows(content: dict[str, Any]) -> list[list[str]]:
    """Header and rows of what has a ratio."""
    rows = [["measured", "ratio", "quartiles", "to reach", "operations allow", "details"]]
    for entry in content["measured"]:
        ratio = entry["ratio"]
        bound = (
            f"at most {entry['at_most']:.2f}"
            if entry["at_most"] is not None
            else f"at least {entry['at_least']:.2f}"
            if entry["at_least"] is not None
            else ""
        )
        mark = {True: "", False: " (missed)", None: ""}[entry["reached"]]
        rows.append(
            [
                f"{entry['group']}: {entry['what']}",
                f"{ratio['median']:.2f}{mark}",
                f"{ratio['low']:.2f} to {ratio['high']:.2f}",
                bound,
                "" if entry["possible"] is None else f"{entry['possible']:.2f}",
                entry["detail"],
            ]
        )
    return rows


def part_rows(content: dict[str, Any]) -> list[list[str]]:
    """Header and rows of reducers and heads."""
    rows = [["part", "forward ms", "with backward ms", "GMACs", "peak MiB", "share reducing"]]
    for entry in content["parts"]:
        rows.append(
            [
                f"{entry['group']}: {entry['what']}",
                f"{entry['forward_ms']:.1f}",
                "" if entry["both_ms"] is None else f"{entry['both_ms']:.1f}",
                f"{entry['gmacs']:.2f}",
                f"{entry['peak_mib']:.0f}",
                "" if entry["share"] is None else f"{entry['share']:.1%}",
            ]
        )
    return rows


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])
