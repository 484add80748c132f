from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.data.download.fetching import Patience, fetch, offered_size
from centerclip_pl.errors import DataError

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(tries=4, timeout=5.0, first_wait=0.01, longest_wait=0.05)


@pytest.fixture
def good(server: Any) -> Any:
    server.content = CONTENT
    return server


def get(server: Any, path: Path, **options: Any) -> Any:
    return fetch(f"{server.url}/file.bin", path, **{"patience": QUICK, **options})


def left_over(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()} - {path.name, f"{path.name}.json"}


def test_a_file_is_fetched_once_and_recorded(good: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    record = get(good, path)
    assert path.read_bytes() == CONTENT
    assert (record.sha256, record.size, record.etag) == (SHA256, len(CONTENT), '"first"')
    assert json.loads((path.parent / "file.bin.json").read_text())["url"] == f"{good.url}/file.bin"
    assert left_over(path) == set()
    assert get(good, path) == record
    assert len(good.requests) == 1


def test_a_dropped_connection_is_gone_on_with(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=100_001), answer(drop_after=50_000)]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [request.get("Range") for request in good.requests] == [None, "bytes=100001-", "bytes=150001-"]
    assert [request.get("If-Range") for request in good.requests] == [None, '"first"', '"first"']


def test_tries_count_only_while_nothing_new_comes(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=10_000) for _ in range(20)]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(good.requests) == 21


def test_a_server_that_always_starts_anew_and_breaks_off_ends(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=10_000, ignore_range=True) for _ in range(100)]
    with pytest.raises(DataError, match=r"10,000 of 300,000 bytes \(given up after 4 tries; 10 kB are kept"):
        get(good, tmp_path / "f")
    assert len(good.requests) == 4


def test_the_next_process_goes_on(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=120_000), *[answer(status=503)] * 4]
    with pytest.raises(DataError, match=r"status 503 .*120 kB are kept"):
        get(good, tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert (tmp_path / "f.part").read_bytes() == CONTENT[:120_000]
    good.requests.clear()
    get(good, tmp_path / "f")
    assert good.requests[0]["Range"] == "bytes=120000-"
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_what_came_from_elsewhere_is_not_gone_on_with(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=120_000), *[answer(status=503)] * 4]
    with pytest.raises(DataError):
        get(good, tmp_path / "f")
    fetch(f"{good.url}/other.bin", tmp_path / "f", patience=QUICK)
    assert "Range" not in good.requests[-1]


@pytest.mark.parametrize("broken", ["{", '{"url": 1, "colour": 2}', "[]"])
def test_a_part_of_unknown_origin_is_not_gone_on_with(
    good: Any, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    (tmp_path / "f.part.json").write_text(broken)
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert "starting anew" in caplog.text


def test_a_server_that_ignores_ranges(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=100_000), answer(ignore_range=True)]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("shift", [-1, 5])
def test_a_server_that_sends_another_range(good: Any, answer: Any, tmp_path: Path, shift: int) -> None:
    good.answers = [answer(drop_after=100_000), answer(shift=shift)]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_file_that_changes_between_tries(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=100_000), *[answer(status=500)] * 4]
    with pytest.raises(DataError):
        get(good, tmp_path / "f")
    good.content, good.etag = bytes(reversed(CONTENT)), '"second"'
    assert get(good, tmp_path / "f").etag == '"second"'
    assert (tmp_path / "f").read_bytes() == good.content


def test_a_changed_file_behind_a_server_that_ignores_if_range(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=100_000), answer(headers={"ETag": '"second"'})]
    get(good, tmp_path / "f")
    assert [request.get("Range") for request in good.requests] == [None, "bytes=100000-", None]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_file_that_never_stops_changing(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=1000, headers={"ETag": f'"{k}"'}) for k in range(100)]
    with pytest.raises(DataError, match="ended after 1,000 of 300,000 bytes"):
        get(good, tmp_path / "f")
    assert len(good.requests) == 4


def test_a_file_that_never_stops_changing_behind_a_server_that_ignores_if_range(
    good: Any, answer: Any, tmp_path: Path
) -> None:
    good.answers = [
        answer(drop_after=1000 * (k + 1), headers={"ETag": '"first"' if k % 2 == 0 else f'"{k}"'}) for k in range(100)
    ]
    with pytest.raises(DataError, match="has changed on the server, 4 times"):
        get(good, tmp_path / "f")
    assert len(good.requests) == 8


def test_416_where_the_file_has_become_shorter(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(drop_after=100_000), answer(status=416, headers={"Content-Range": "bytes */5"})]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_416_where_all_is_there(good: Any, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    about = {"url": f"{good.url}/file.bin", "size": None, "etag": '"first"', "last_modified": None}
    (tmp_path / "f.part.json").write_text(json.dumps(about))
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(good.requests) == 1


def test_without_etag_and_date_a_part_is_not_trusted_unless_the_hash_is_known(
    good: Any, answer: Any, tmp_path: Path
) -> None:
    good.etag = None
    good.answers = [answer(drop_after=100_000)]
    get(good, tmp_path / "f")
    assert [request.get("Range") for request in good.requests] == [None, None]
    good.requests.clear()
    good.answers = [answer(drop_after=100_000)]
    get(good, tmp_path / "g", digest=f"sha256:{SHA256}")
    assert [request.get("Range") for request in good.requests] == [None, "bytes=100000-"]
    assert (tmp_path / "g").read_bytes() == CONTENT


def test_a_size_announced_too_large(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(headers={"Content-Length": "300010"})] + [
        answer(ignore_range=True, headers={"Content-Length": "300010"}) for _ in range(9)
    ]
    with pytest.raises(DataError, match="300,000 of 300,010 bytes"):
        get(good, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_range_longer_than_the_whole(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [
        answer(drop_after=100_000),
        answer(headers={"Content-Length": "200007"}, more=b"garbage"),
    ]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(good.requests) == 3


def test_a_size_announced_too_small_shows_by_the_hash(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(headers={"Content-Length": "299990"})]
    with pytest.raises(DataError, match="published is"):
        get(good, tmp_path / "f", digest=f"sha256:{SHA256}")
    assert list(tmp_path.iterdir()) == []


def test_chunks_without_a_size(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(chunked=True, drop_after=100_000), answer(chunked=True)]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert good.requests[1]["Range"] == "bytes=100000-"


def test_neither_size_nor_chunks(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(headers={"Content-Length": ""})] * 2
    with pytest.raises(DataError, match="does not say how large"):
        get(good, tmp_path / "f")
    get(good, tmp_path / "f", digest=f"sha256:{SHA256}")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 401, 410])
def test_what_another_try_cannot_change(good: Any, answer: Any, tmp_path: Path, status: int) -> None:
    good.answers = [answer(status=status)]
    with pytest.raises(DataError, match=f"status {status}"):
        get(good, tmp_path / "f")
    assert len(good.requests) == 1
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_what_another_try_may_change(good: Any, answer: Any, tmp_path: Path, status: int) -> None:
    good.answers = [answer(status=status), answer(status=status)]
    get(good, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_waiting_as_long_as_the_server_asks(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(status=503, headers={"Retry-After": "1"})]
    before = time.monotonic()
    get(good, tmp_path / "f", patience=Patience(first_wait=0.01, longest_wait=0.4))
    assert 0.4 <= time.monotonic() - before < 3  # asked for 1 second, and 0.4 is the most


def test_silence_ends(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(hang_after=100_000), answer(hang_after=0)]
    get(good, tmp_path / "f", patience=Patience(timeout=0.3, first_wait=0.01))
    assert (tmp_path / "f").read_bytes() == CONTENT
    good.answers = [answer(hang_after=0)] * 2
    with pytest.raises(DataError, match="no answer in time"):
        get(good, tmp_path / "g", patience=Patience(tries=2, timeout=0.2, first_wait=0.01))


def test_redirections(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(status=302, headers={"Location": f"{good.url}/elsewhere"})]
    get(good, tmp_path / "f")
    assert good.requests[1]["path"] == "/elsewhere"
    assert (tmp_path / "f").read_bytes() == CONTENT
    good.answers = [answer(status=302, headers={"Location": f"{good.url}/round"})] * 40
    with pytest.raises(DataError, match="redirects"):
        get(good, tmp_path / "g")


def test_a_web_page_is_not_the_file(good: Any, answer: Any, tmp_path: Path) -> None:
    good.answers = [answer(headers={"Content-Type": "text/html; charset=utf-8"})]
    with pytest.raises(DataError, match="a web page, not the file"):
        get(good, tmp_path / "f")


def test_nobody_there(tmp_path: Path, server: Any) -> None:
    server.close()
    with pytest.raises(DataError, match=r"Connection refused \(given up after 3 tries"):
        get(server, tmp_path / "f")
    with pytest.raises(DataError, match="Connection refused"):
        offered_size(f"{server.url}/file.bin")


def test_published_hash(good: Any, tmp_path: Path) -> None:
    get(good, tmp_path / "f", digest="md5:" + hashlib.md5(CONTENT).hexdigest())
    with pytest.raises(DataError, match=f"sha256 is {SHA256}, published is 00"):
        get(good, tmp_path / "g", digest="sha256:00")
    assert left_over(tmp_path / "f") == set()
    with pytest.raises(DataError, match="published is 00"):  # what lies there is looked at as well
        get(good, tmp_path / "f", digest="sha256:00")


def test_the_hash_of_the_first_time_counts_later(good: Any, tmp_path: Path) -> None:
    get(good, tmp_path / "f")
    (tmp_path / "f").unlink()
    good.content, good.etag = bytes(reversed(CONTENT)), '"second"'
    with pytest.raises(DataError, match=f"was {SHA256}: it was damaged, or the owner has changed it"):
        get(good, tmp_path / "f")
    (tmp_path / "f.json").unlink()
    get(good, tmp_path / "f")
    (tmp_path / "f").write_bytes(b"damaged")
    with pytest.raises(DataError, match="was damaged"):
        get(good, tmp_path / "f")


def test_too_little_room_is_said_before_anything_is_written(
    good: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 500_000, 500_000))
    with pytest.raises(DataError, match="has 500 kB left on its disk; 600 kB are needed"):
        get(good, tmp_path / "f", copies=2)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    get(good, tmp_path / "f")


def test_a_disk_that_fills_up(good: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, write = 150_000, os.write

    def scarce(file: int, data: Any) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(file, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", scarce)
    with pytest.raises(DataError, match="disk is full"):
        get(good, tmp_path / "f")
    monkeypatch.undo()
    assert (tmp_path / "f.part").read_bytes() == CONTENT[:150_000]
    get(good, tmp_path / "f")
    assert good.requests[-1]["Range"] == "bytes=150000-"
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_file_in_place_of_the_folder(good: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/below cannot be written: Not a directory"):
        get(good, tmp_path / "file" / "below" / "f")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written(good: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot be written: Permission denied"):
            get(good, tmp_path / "f")
    finally:
        tmp_path.chmod(0o700)


def test_two_processes_do_not_write_one_file(good: Any, tmp_path: Path) -> None:
    with (tmp_path / "f.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="is being fetched by another process"):
            get(good, tmp_path / "f")
    get(good, tmp_path / "f")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_at_any_time(good: Any, answer: Any, tmp_path: Path, how: signal.Signals) -> None:
    good.answers = [answer(hang_after=200_000)]
    script = "import sys; from pathlib import Path; from centerclip_pl.data.download.fetching import fetch; "
    script += "fetch(sys.argv[1], Path(sys.argv[2]))"
    command = [sys.executable, "-c", script, f"{good.url}/file.bin", str(tmp_path / "f")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not ((part := tmp_path / "f.part").exists() and part.stat().st_size == 200_000):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    get(good, tmp_path / "f")
    assert good.requests[-1]["Range"] == "bytes=200000-"
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_sizes_without_fetching(good: Any, answer: Any) -> None:
    assert offered_size(f"{good.url}/file.bin") == len(CONTENT)
    good.answers = [answer(status=404), answer(headers={"Content-Length": ""})]
    with pytest.raises(DataError, match="status 404"):
        offered_size(f"{good.url}/file.bin")
    with pytest.raises(DataError, match="no size"):
        offered_size(f"{good.url}/file.bin")
    assert {request["method"] for request in good.requests} == {"HEAD"}


@pytest.mark.parametrize("proxy", ["http://user:s3cret@127.0.0.1:99999", "http://user:s3 cret@127.0.0.1:99999"])
def test_the_password_of_a_proxy_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match="cannot be fetched") as caught:
        fetch("https://example.com/a.zip", tmp_path / "a.zip", patience=Patience(first_wait=0.01))
    assert "user" not in str(caught.value)
    assert "cret" not in str(caught.value)
