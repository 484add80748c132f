from __future__ import annotations

from pathlib import Path

import pytest

from centerclip_pl.report.provenance import Provenance, read_provenance
from centerclip_pl.runs import wandb_project
from centerclip_pl.runs.found import Found, FoundRun
from centerclip_pl.training.results import read_results


def test_the_command_and_the_versions_of_a_run(runs_folder: Path) -> None:
    run, gone = str(runs_folder / "0-0"), str(runs_folder / "gone")
    found = read_provenance([run, gone])
    assert found[run].command == "centerclip train --dataset demo"
    assert found[run].versions == read_results(runs_folder / "0-0" / "results.json")["versions"]
    assert found[gone] == Provenance()


def test_runs_of_one_project_are_asked_for_once(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, asked = read_results(runs_folder / "0-0" / "results.json"), []

    def find(source: str) -> Found:
        asked.append(source)
        return Found(runs=[FoundRun(f"{source}/{n}", results, None) for n in "abc"])

    monkeypatch.setattr(wandb_project, "find_wandb", find)
    found = read_provenance(["wandb:me/one/a", "wandb:me/one/b", "wandb:me/two/c"])
    assert asked == ["wandb:me/one", "wandb:me/two"]
    assert {name: each.command for name, each in found.items()} == dict.fromkeys(
        ("wandb:me/one/a", "wandb:me/one/b", "wandb:me/two/c"), "centerclip train --dataset demo"
    )
