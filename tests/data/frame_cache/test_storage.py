"""Caches behind an address: fsspec's memory, and a web server that gives ranges, in place of an object store."""

from __future__ import annotations

import gc
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from centerclip_pl.data.frame_cache import FrameCache
from centerclip_pl.data.frame_cache.storage import open_storage
from centerclip_pl.errors import ConfigError, DataError

IDS = ["a", "b", "c0", "c1", "c2"]


class _Ranges(BaseHTTPRequestHandler):
    """GET with ``Range: bytes=first-last``, as object stores answer it."""

    folder: Path
    asked: list[str]
    knows_ranges = True

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        file = self.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if body and wanted and self.knows_ranges:
            first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
            self.asked.append(f"{self.path} {last - first + 1}")
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(cache_folder: Path) -> Iterator[tuple[str, list[str]]]:
    """An address, and the ranges that were asked for."""
    handler = type("Handler", (_Ranges,), {"folder": cache_folder, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", handler.asked  # type: ignore[attr-defined]
        http.shutdown()
        thread.join()


def test_over_http_only_the_chosen_frames_travel(
    source: Any, cache_folder: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    cache = FrameCache(address)
    assert torch.equal(cache.read("c1", lambda _: [1, 5, 12]), source.frames("c1")[[1, 5, 12]])
    assert len(asked) == 3
    assert all(3072 < int(line.split()[1]) < 3072 + 400 for line in asked)
    cache.check_options(32, None)
    assert cache.clips.equals(FrameCache(cache_folder).clips)


def test_a_server_that_sends_whole_files_is_named(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Ranges, "knows_ranges", False)
    with pytest.raises(DataError, match=r"frames-00000\.arrow: [\d,]+ bytes came where") as caught:
        FrameCache(server[0]).read("c1", lambda _: [1])
    assert "Range" in str(caught.value.next_step)


def test_forked_loader_processes_read_over_http(source: Any, server: tuple[str, list[str]]) -> None:
    cache = FrameCache(server[0])
    cache.read("a", range)  # the connection of this process is not the children's
    gc.collect()  # PyAV frames that are garbage here would wait for their threads in a forked process, for ever
    loader: Any = DataLoader(
        IDS,  # type: ignore[arg-type]  # a list is a dataset
        batch_size=None,
        collate_fn=partial(FrameCache.read, cache, choose=range),
        num_workers=2,
        multiprocessing_context="fork",
        timeout=60,
    )
    for video_id, got in zip(IDS, loader, strict=True):
        assert torch.equal(got, source.frames(video_id))


def test_an_address_without_a_cache_is_named(server: tuple[str, list[str]]) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/elsewhere is not a complete frame cache"):
        _ = FrameCache(f"{server[0]}/elsewhere").clips


def test_from_fsspec_memory(source: Any, cache_folder: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(cache_folder) + "/", "/bucket/cache/", recursive=True)
        cache = FrameCache("memory://bucket/cache")
        for video_id in IDS:
            assert torch.equal(cache.read(video_id, range), source.frames(video_id))
        memory.rm("/bucket/cache/frames-00000.arrow")
        with pytest.raises(DataError, match=r"memory://bucket/cache/frames-00000.arrow does not exist"):
            cache.read("a", range)
    finally:
        memory.rm("/bucket", recursive=True)


def test_file_addresses_are_folders(source: Any, cache_folder: Path) -> None:
    assert torch.equal(FrameCache(f"file://{cache_folder}").read("a", range), source.frames("a"))


def test_an_address_that_nothing_reads_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="nothing://bucket cannot be opened") as caught:
        open_storage("nothing://bucket")
    assert "pip install s3fs" in str(caught.value.next_step)


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    import os

    for number in range(100):
        (tmp_path / f"{number}").write_bytes(bytes([number, number + 1]))
    before = len(os.listdir("/proc/self/fd"))
    storage = open_storage(str(tmp_path))
    for number in [*range(100), 0, 99]:
        assert storage.ranges(f"{number}", [(1, 2), (0, 1)]) == [bytes([number + 1]), bytes([number])]
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    del storage
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_address_that_cannot_be_reached_is_not_called_incomplete() -> None:
    with socket.socket() as unheard:  # bound, but nobody listens
        unheard.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unheard.getsockname()[1]}/cache"
        with pytest.raises(DataError, match=r"/cache/cache\.json cannot be reached") as caught:
            _ = FrameCache(address).clips
    assert "network" in str(caught.value.next_step)
