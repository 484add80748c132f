"""Galleries whose scores take gigabytes: real peaks of a process, and ranks of a sample of queries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__)
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not say what it uses")


def ranked_alone(size: int, channels: int, batch: int) -> dict[str, int]:
    paths = [str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, str(HERE.with_name("scale_worker.py")), *map(str, (size, channels, batch))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, int] = json.loads(run.stdout.splitlines()[-1])
    assert found["checked"] == 40
    assert found["wrong"] == 0
    return found


@pytest.mark.soak
def test_memory_beyond_the_embeddings_is_a_fraction_of_the_scores() -> None:
    """12,000 x 12,000: the scores would take 576 MB in float32, their booleans 144."""
    assert ranked_alone(12_000, 16, 1000)["beyond"] < 100e6


@pytest.mark.soak
def test_a_hundred_thousand_by_a_hundred_thousand() -> None:
    """40 GB of scores within 1 GB beyond the embeddings, which are put together from batches and kept by the caller."""
    assert ranked_alone(100_000, 512, 1000)["beyond"] < 1000**3
