"""Runs of two protocols, with an attack in a name, and their page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from centerclip_pl.report import Options, Page, build_page, render, write_report
from centerclip_pl.runs import read_runs

ATTACK = "<script>window.attacked = 1</script><img src=x onerror='window.attacked = 1'>\"'&$_^"
BEGIN = datetime(2026, 1, 1, 8, tzinfo=UTC)


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    """A grid of segments and clusters with two seeds, a baseline, others with one seed; and two runs on MSR-VTT."""
    folder = tmp_path_factory.mktemp("runs")
    settings = [
        {"segments": segments, "clusters": clusters, "skill": 0.5 + 0.02 * segments + 0.002 * clusters}
        for segments in (2, 8)
        for clusters in (16, 48)
    ]
    settings += [
        {"method": "baseline", "skill": 0.76},
        {"after_block": 3, "segments": 8, "clusters": 48, "skill": 0.74},
    ]
    place = 0
    for number, setting in enumerate(settings):
        for seed in (0, 1):
            place += 1  # one after the other: each takes a minute and a half
            created = (BEGIN + timedelta(minutes=5 * place)).isoformat()
            write_run(folder / f"{number}-{seed}", **setting, seed=seed, queries=60, created=created)
    created = (BEGIN + timedelta(hours=3)).isoformat()
    write_run(folder / "once", method="pooling", segments=4, skill=0.4, queries=60, created=created)
    msrvtt = {"dataset": "msrvtt", "protocol": "msrvtt-1ka", "queries": 50}
    created = (BEGIN + timedelta(hours=4)).isoformat()
    write_run(folder / "m0", **msrvtt, skill=0.5, selection={"selected_on": "test"}, created=created)
    created = (BEGIN + timedelta(hours=5)).isoformat()
    write_run(folder / "m1", **msrvtt, skill=0.4, backbone=ATTACK, ranks=False, created=created)
    return folder


@pytest.fixture(scope="session")
def runs(runs_folder: Path) -> pd.DataFrame:
    """Of `runs_folder`; do not change it."""
    return read_runs(runs_folder)


@pytest.fixture(scope="session")
def page(runs: pd.DataFrame, runs_folder: Path) -> Page:
    """Of `runs`."""
    return build_page(runs, [str(runs_folder)], options=Options(resamples=500), title="A report", now=BEGIN)


@pytest.fixture(scope="session")
def page_file(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, render(page))
    return path
