from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from centerclip_pl.errors import CheckpointError
from centerclip_pl.hub import fetch_from_hub, first_line


class Response:
    """As much of an HTTP response as the hub's exceptions look at."""

    headers: dict[str, str] = {}
    request = None
    status_code = 404


class Hub:
    """Stands for ``snapshot_download``: gives or raises what it is told, without and with a network."""

    def __init__(self, local: Path | Exception, remote: Path | Exception) -> None:
        self.answers = {True: local, False: remote}
        self.calls: list[dict[str, Any]] = []

    def __call__(self, name: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        self.calls.append({"name": name, "patterns": allow_patterns, "local": local_files_only})
        answer = self.answers[local_files_only]
        if isinstance(answer, Exception):
            raise answer
        return str(answer)


def use(monkeypatch: pytest.MonkeyPatch, local: Path | Exception, remote: Path | Exception) -> Hub:
    hub = Hub(local, remote)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    return hub


NOT_HERE = LocalEntryNotFoundError("not in the cache")


def test_the_cache_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    hub = use(monkeypatch, tmp_path, AssertionError("the network was asked"))
    assert fetch_from_hub("a/b", ["config.json"], "backbone") == str(tmp_path)
    assert hub.calls == [{"name": "a/b", "patterns": ["config.json"], "local": True}]


def test_then_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = use(monkeypatch, NOT_HERE, tmp_path)
    assert fetch_from_hub("a/b", ["config.json"], "backbone") == str(tmp_path)
    assert [call["local"] for call in hub.calls] == [True, False]


def test_a_cache_that_holds_other_parts_is_not_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model's weights were fetched by another program: its tokenizer is not there, but a folder is."""
    cached, fetched = tmp_path / "cached", tmp_path / "fetched"
    cached.mkdir()
    for name in ("config.json", "model.safetensors"):
        (cached / name).touch()
    hub = use(monkeypatch, cached, fetched)
    wanted = ["config.json", "tokenizer*", "vocab*"]
    assert fetch_from_hub("a/b", wanted, "tokenizer") == str(fetched)
    (cached / "vocab.json").touch()
    assert fetch_from_hub("a/b", wanted, "tokenizer") == str(cached)
    assert [call["local"] for call in hub.calls] == [True, False, True]


@pytest.mark.parametrize(
    ("local", "remote", "says", "next_step"),
    [
        (HFValidationError("Repo id must be"), NOT_HERE, "no such folder, and it is no hub id", "--local-dir"),
        (NOT_HERE, GatedRepoError("403", response=Response()), "accepted its terms", "hf auth login"),
        (NOT_HERE, RepositoryNotFoundError("404", response=Response()), "no such repository", "correct the name"),
        (NOT_HERE, NOT_HERE, "cannot be downloaded: not in the cache", "HF_HOME"),
        (NOT_HERE, OfflineModeIsEnabled("offline mode is on\nmore"), "downloaded: offline mode is on$", "HF_HOME"),
        (NOT_HERE, HfHubHTTPError("502 Bad Gateway", response=Response()), "downloaded: 502 Bad Gateway", "HF_HOME"),
        (NOT_HERE, TimeoutError(), "cannot be downloaded: TimeoutError", "HF_HOME"),
        (NOT_HERE, OSError(28, "No space left on device"), "No space left on device", "HF_HOME"),
    ],
)
def test_each_failure_says_what_to_do(
    local: Exception, remote: Exception, says: str, next_step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, local, remote)
    with pytest.raises(CheckpointError, match=f"(?m)^backbone=some/model: .*{says}") as caught:
        fetch_from_hub("some/model", ["config.json"], "backbone")
    assert "\n" not in caught.value.problem
    assert caught.value.next_step is not None
    assert next_step in caught.value.next_step


def test_first_line() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("\n  one")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 1000))) == 200
