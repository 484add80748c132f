"""W&B's own classes on the answers of a made-up server: no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
import yaml
from wandb.apis import public

from centerclip_pl.errors import DataError
from centerclip_pl.runs import read_run_ranks, read_runs
from centerclip_pl.runs.columns import COLUMNS

WriteRun = Callable[..., Path]


class Server:
    """Answers GraphQL requests about one project, in the form in which W&B's server does, and counts them."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, Path] = {}
        self.asked = self.downloads = 0
        self.app_url = "https://wandb.invalid/"

    def add(self, name: str, run: Path | None, **config: Any) -> None:
        options = yaml.safe_load((run / "config.yaml").read_text()) if run else {}
        summary = {"results": json.loads((run / "results.json").read_text())} if run else {}
        self.runs[name] = {
            "id": f"storage-{name}",
            "name": name,
            "displayName": f"shown {name}",
            "state": "finished" if run else "running",
            "projectId": "7",
            "sweepName": None,
            "createdAt": "2026-01-01T00:00:00Z",
            "config": json.dumps({key: {"value": value} for key, value in (options | config).items()}),
            "summaryMetrics": json.dumps({"_step": 3, **summary}),
            "systemMetrics": None,
            "user": {"name": "a", "username": "a"},
        }
        if run and (run / "ranks.parquet").is_file():
            self.files[name] = run / "ranks.parquet"

    def execute_graphql(self, query: str, variables: Mapping[str, Any] | None = None, **_: Any) -> dict[str, Any]:
        self.asked += 1
        variables = variables or {}
        if (variables["entity"], variables["project"]) != ("team", "study"):
            return {"project": None}
        if "query RunFiles" in query:
            path = self.files.get(variables["name"])
            # Of a file that is not there W&B gives an entry without content.
            node = {
                "id": "f",
                "name": variables["fileNames"][0],
                "url": str(path),
                "directUrl": str(path),
                "sizeBytes": str(path.stat().st_size) if path else "0",
                "mimetype": "",
                "updatedAt": None,
                "md5": str(hash(path.read_bytes())) if path else None,
            }
            files = {"edges": [{"node": node, "cursor": "1"}], "pageInfo": {"endCursor": "1", "hasNextPage": False}}
            return {"project": {"internalId": "7", "run": {"fileCount": 1, "files": files}}}
        if "query Runs(" in query:
            names, each = list(self.runs), variables["perPage"]
            start = int(variables.get("cursor") or 0)
            page = names[start : start + each]
            edges = [{"node": dict(self.runs[name]), "cursor": str(start + n + 1)} for n, name in enumerate(page)]
            info = {"endCursor": None, "hasNextPage": start + each < len(names)}
            return {
                "project": {
                    "internalId": "7",
                    "runCount": len(names),
                    "readOnly": False,
                    "runs": {"edges": edges, "pageInfo": info},
                }
            }
        run = self.runs.get(variables["name"])
        return {"project": {"run": dict(run) if run else None}}

    def send_api_request(self, request: Any, **_: Any) -> None:
        self.downloads += 1
        asked = request.download_file_request
        Path(asked.path).parent.mkdir(parents=True, exist_ok=True)
        Path(asked.path).write_bytes(Path(asked.url).read_bytes())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server()

    class Api:
        """As `wandb.Api`, whose methods make the same objects; for a user whose entity is ``team``."""

        def runs(self, path: str, lazy: bool, per_page: int) -> public.Runs:
            entity, _, project = path.rpartition("/")
            return public.Runs(server, entity or "team", project, lazy=lazy, per_page=per_page)  # type: ignore[arg-type]

        def run(self, path: str) -> public.Run:
            return public.Run(server, *path.split("/"), lazy=False)  # type: ignore[arg-type, call-arg]

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "wandb"))
    return server


@pytest.fixture
def study(server: Server, tmp_path: Path, write_run: WriteRun) -> Path:
    """Three runs with results, here and there, and one that is running."""
    for n, method in enumerate(("kmedoids", "pooling", "baseline")):
        run = write_run(tmp_path / "local" / method, method=method, seed=n, created=f"2026-01-0{n + 1}T00:00:00+00:00")
        # What W&B's agent adds to the config of a sweep's trial.
        server.add(f"id{n}", run, **{"tokens.segments": 4, "method": method, "dataset": "demo"})
    server.add("id9", None, trainer={"max_epochs": 5})
    return tmp_path / "local"


@pytest.mark.parametrize("source", ["wandb:team/study", "wandb:study"])
def test_a_project_reads_as_its_folders_do(study: Path, source: str) -> None:
    here, there = read_runs(study), read_runs(source)
    assert there["run"].tolist() == [f"wandb:team/study/id{n}" for n in range(3)]
    pd.testing.assert_frame_equal(here.drop(columns="run"), there.drop(columns="run"))
    assert tuple(there.columns) == COLUMNS
    assert there.attrs == {"skipped": [], "unfinished": ["wandb:team/study/id9 (shown id9, running)"]}


def test_folders_and_projects_together(study: Path) -> None:
    assert len(read_runs([study, "wandb:team/study", "wandb:team/study"])) == 6
    assert read_runs("wandb:team/study/id1")["method"].tolist() == ["pooling"]


def test_a_long_project_is_asked_for_page_by_page(server: Server, study: Path) -> None:
    for n in range(10, 240):
        server.runs[f"id{n}"] = server.runs["id0"] | {"name": f"id{n}"}
    server.asked = 0
    assert len(read_runs("wandb:team/study")) == 233
    assert server.asked == 3  # of 100 each; none by itself


def test_ranks_are_downloaded_once_and_again_when_they_change(
    server: Server, study: Path, tmp_path: Path, write_run: WriteRun
) -> None:
    name = "wandb:team/study/id0"
    ranks = read_run_ranks(name)
    pd.testing.assert_frame_equal(ranks, read_run_ranks(study / "kmedoids"))
    pd.testing.assert_frame_equal(ranks, read_run_ranks(name))
    assert server.downloads == 1
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in cached] == ["ranks.parquet"]
    assert "team/study/id0" in cached[0].as_posix()
    server.files["id0"] = write_run(tmp_path / "again", skill=0.3) / "ranks.parquet"
    assert not read_run_ranks(name).equals(ranks)
    assert server.downloads == 2


def test_a_download_that_breaks_leaves_nothing(
    server: Server, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: Any, **_: Any) -> None:
        Path(request.download_file_request.path).write_bytes(b"PAR1 and no more")
        raise ConnectionError("the line went dead")

    monkeypatch.setattr(server, "send_api_request", broken)
    with pytest.raises(DataError, match="the line went dead"):
        read_run_ranks("wandb:team/study/id0")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_run_without_ranks(server: Server, study: Path) -> None:
    del server.files["id1"]
    with pytest.raises(DataError, match=r"wandb:team/study/id1 has no ranks\.parquet"):
        read_run_ranks("wandb:team/study/id1")
    with pytest.raises(DataError, match="names no run"):
        read_run_ranks("wandb:team/study")


def test_bad_runs_are_named_or_left_out(server: Server, study: Path) -> None:
    server.runs["id1"]["summaryMetrics"] = json.dumps({"results": {"schema_version": 99}})
    server.runs["id2"]["summaryMetrics"] = json.dumps({"results": "text"})
    with pytest.raises(DataError, match="2 of 3 runs") as caught:
        read_runs("wandb:team/study")
    assert "wandb:team/study/id1: has schema version 99" in str(caught.value)
    runs = read_runs("wandb:team/study", on_bad="skip")
    assert runs["run"].tolist() == ["wandb:team/study/id0"]
    assert len(runs.attrs["skipped"]) == 2


def test_no_results_no_project_no_run(server: Server, study: Path) -> None:
    for name in ("id0", "id1", "id2"):
        del server.runs[name]
    with pytest.raises(DataError, match="no run with results in wandb:team/study; 1 unfinished run"):
        read_runs("wandb:team/study")
    with pytest.raises(DataError, match="W&B knows no such project"):
        read_runs("wandb:team/other")
    with pytest.raises(DataError, match="W&B knows no such project or run"):
        read_run_ranks("wandb:team/study/id77")
    for source in ("wandb:", "wandb:a/b/c/d", "wandb:../x", "wandb:a//b"):
        with pytest.raises(DataError, match="names no W&B project"):
            read_runs(source)


@pytest.mark.parametrize(
    ("error", "says", "advice"),
    [
        (wandb.errors.UsageError("No API key configured. Use `wandb login` to log in."), "no W&B key", "wandb login"),
        (wandb.errors.AuthenticationError("Failed to verify credentials"), "does not answer or refuses", "relogin"),
        (wandb.errors.CommError("timed out"), "does not answer: timed out", "network"),
        (ConnectionError("no route to host"), "does not answer: no route to host", "network"),
        (wandb.errors.UsageError("something else"), "W&B says: something else", ""),
    ],
)
def test_what_goes_wrong_is_one_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str, advice: str
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(DataError) as caught:
        read_runs("wandb:team/study")
    assert str(caught.value).startswith("wandb:team/study: ")
    assert says in str(caught.value)
    assert advice in str(caught.value)


def test_the_real_client_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fake: W&B's own first step, which needs no network."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    wandb.teardown()
    with pytest.raises(DataError, match="there is no W&B key"):
        read_runs("wandb:team/study")
    wandb.teardown()
