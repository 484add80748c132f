"""Results: what was measured, and the file that a run leaves."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

import torch
import transformers

import centerclip_pl
from benchmarks.plan import Plan
from benchmarks.timing import Summary
from centerclip_pl.files import replacing

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
"""Of the file; it rises when an older one cannot be continued."""

# What decides about threads and memory. Whole families of names, but for those that may hold folders.
_ENVIRONMENT = re.compile(
    r"(MALLOC|OMP|GOMP|KMP|MKL)_\w+|GLIBC_TUNABLES|CUDA_LAUNCH_BLOCKING|NVIDIA_TF32_OVERRIDE|PYTORCH_(CUDA_)?ALLOC_CONF"
)


@dataclass(frozen=True)
class Measured:
    """A ratio, and what it should be."""

    group: str
    what: str
    ratio: Summary | None
    """None where it could not be measured; `detail` says why."""
    at_most: float | None = None
    at_least: float | None = None
    possible: float | None = None
    """The ratio that the counted operations alone allow."""
    times_ms: Mapping[str, Summary] = field(default_factory=dict)
    """Of the two things that are divided."""
    gmacs: Mapping[str, float] = field(default_factory=dict)
    peaks_mib: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""
    """For the table."""
    measurement: str = ""
    """What it came with, as ``--only`` has it."""
    wrong: bool = False
    """The two things do not compute the same: no matter of speed, but a defect."""

    @property
    def reached(self) -> bool | None:
        """Whether the median is within its bound. None where there is none, or where there was no memory to measure."""
        if self.wrong:
            return False
        if self.ratio is None:
            return None
        if self.at_most is not None:
            return self.ratio.median <= self.at_most
        return None if self.at_least is None else self.ratio.median >= self.at_least

    @property
    def near(self) -> float | None:
        """Share of what the operations allow; above 1 where other things than operations are saved too."""
        if self.possible is None or self.ratio is None:
            return None
        return self.possible / self.ratio.median if self.at_most is not None else self.ratio.median / self.possible


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
    """Of a head, forward and backward; of a reducer, the whole encoder's forward pass."""
    share: float | None
    """Of the encoder's time that is spent in reducers."""
    measurement: str = ""
    """What it came with, as ``--only`` has it."""


def device_name(device: str) -> str:
    """Of the machine's GPU, or of its processor with the number of threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    name = names[0].strip() if names else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def results_path(plan: Plan, folder: Path) -> Path:
    """``<device>.json``, or ``<device>-quick.json``."""
    name = re.sub(r"[^a-z0-9]+", "-", device_name(plan.device).lower()).strip("-")
    return folder / f"{name}{'-quick' if plan.quick else ''}.json"


def circumstances(device: str) -> dict[str, Any]:
    """What figures can only be compared under."""
    versions = {
        "centerclip_pl": centerclip_pl.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
    environment = {name: value for name, value in sorted(os.environ.items()) if _ENVIRONMENT.fullmatch(name)}
    if os.environ.get("LD_PRELOAD"):  # another allocator, say; the folders do not matter
        environment["LD_PRELOAD"] = " ".join(PurePath(p).name for p in re.split(r"[ :]+", os.environ["LD_PRELOAD"]))
    return {
        "format": FORMAT,
        "device": device_name(device),
        "versions": versions,
        "threads": torch.get_num_threads(),
        "environment": environment,
    }


def differences(path: Path, now: Mapping[str, Any]) -> list[str]:
    """In which circumstances the results of a file, which need not exist, differ from a run's."""
    if not path.is_file():
        return []
    before = json.loads(path.read_text())
    return [f"{key}: {before.get(key)} there, {now[key]} now" for key in now if before.get(key) != now[key]]


def write(path: Path, plan: Plan, measured: list[Measured], parts: list[Part], keep: bool) -> dict[str, Any]:
    """Writes the file, whole or not at all.

    Args:
        path: the file; its folder is made.
        plan: of the run.
        measured, parts: what the run found.
        keep: leave what is in the file of measurements that the run did not make. Each entry says from when it is.

    Returns:
        What is in the file.
    """
    when = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit()}
    content: dict[str, Any] = {
        **when,
        **circumstances(plan.device),
        "quick": plan.quick,
        "measured": [{**asdict(m), "reached": m.reached, "near": m.near, **when} for m in measured],
        "parts": [{**asdict(part), **when} for part in parts],
    }
    if keep and path.is_file():
        before = json.loads(path.read_text())
        made = {entry["measurement"] for kind in ("measured", "parts") for entry in content[kind]}
        for kind in ("measured", "parts"):
            content[kind] = [e for e in before[kind] if e["measurement"] not in made] + content[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
    return content


def commit() -> str | None:
    """The commit that is measured, with ``-dirty`` if files differ from it; None outside of a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(RESULTS.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        name = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "--", ":/", f":!{RESULTS}")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{name}-dirty" if changed else name
