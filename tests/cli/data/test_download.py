from __future__ import annotations

import functools
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from centerclip_pl.cli import main
from centerclip_pl.data import expected
from centerclip_pl.data.download.sources import SOURCES, Source
from centerclip_pl.data.expected import Expected

REPOSITORY = Path(__file__).parents[3]
EXPERIMENTS = f"--experiments={REPOSITORY / 'experiments'}"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def offered(
    tmp_path: Path, write_miniature: Callable[[str, Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder of a server on this machine that offers MSR-VTT in small, as its owners do."""
    made, folder = tmp_path / "made", tmp_path / "served"
    write_miniature("msrvtt", made)
    folder.mkdir()
    with zipfile.ZipFile(folder / "msrvtt_data.zip", "w") as lists, zipfile.ZipFile(folder / "MSRVTT.zip", "w") as all_:
        for path in made.rglob("*"):
            if path.suffix == ".mp4":
                all_.write(path, f"MSRVTT/videos/all/{path.name}")
            elif path.is_file():
                lists.write(path, f"msrvtt_data/{path.name}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    local = tuple(Source(s.part, f"{url}/{s.file}", s.gives, s.suffixes) for s in SOURCES["msrvtt"])
    monkeypatch.setitem(SOURCES, "msrvtt", local)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def run(*words: str) -> None:
    main(["data", "download", *words, EXPERIMENTS])


def test_a_dataset_is_fetched_and_then_left_alone(
    offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    run("msrvtt", f"--data.root={root}")
    out = capsys.readouterr().out
    assert f"msrvtt_data.zip: 4 files in {root}" in out
    assert f"{root}: 16 of 16 videos are there" in out
    assert (root / "MSRVTT/videos/all/video0.mp4").is_file()
    assert not list(root.rglob("*.zip"))
    shutil.rmtree(offered)
    run("msrvtt", f"--data.root={root}")
    out = capsys.readouterr().out
    assert "msrvtt: nothing to fetch, 16 of 16 videos\n" in out
    assert "another number of videos: 12 for train (published: 9,000), 4 for test (published: 1,000)" in out


def test_as_many_videos_as_are_published(
    offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(expected._PUBLISHED, "msrvtt-9k", {"train": Expected(12), "test": Expected(4)})
    root = tmp_path / "root"
    run("msrvtt", f"--data.root={root}")
    assert "another number" not in capsys.readouterr().out
    run("msrvtt", f"--data.root={root}")
    assert capsys.readouterr().out == "msrvtt: all is there, 16 of 16 videos; nothing to do\n"


@pytest.mark.parametrize("name", ["MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv", "MSRVTT_data.json"])
def test_a_damaged_annotation_file_is_fetched_again_as_its_error_says(
    name: str, offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    run("msrvtt", f"--data.root={root}")
    (damaged,) = root.rglob(name)
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:9])
    for only in ([], ["--only=annotations"]):
        with pytest.raises(SystemExit) as ended:
            run("msrvtt", f"--data.root={root}", *only)
        assert ended.value.code == 2
        assert f"-> remove {damaged} (or replace it), then" in capsys.readouterr().err
    damaged.unlink()
    run("msrvtt", f"--data.root={root}")
    assert damaged.read_bytes() == whole
    assert "16 of 16 videos are there" in capsys.readouterr().out


def test_only_one_part_and_kept_archives(offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    run("msrvtt", f"--data.root={root}", "--only=annotations", "--keep_archives=true")
    assert f"{root}: 0 of 16 videos are there" in capsys.readouterr().out
    assert [path.name for path in root.rglob("*.zip")] == ["msrvtt_data.zip"]
    run("msrvtt", f"--data.root={root}", "--only=videos")
    assert "16 of 16" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = (offered / "msrvtt_data.zip").stat().st_size
    (offered / "MSRVTT.zip").unlink()
    run("msrvtt", f"--data.root={tmp_path / 'root'}", "--dry_run=true")
    out = capsys.readouterr().out
    assert f"{size / 1000:.4g} kB" in out
    assert "to fetch" in out
    assert "unknown" in out
    assert "MSRVTT.zip: the server says status 404" in out
    assert not (tmp_path / "root").exists()


def test_videos_that_the_archive_lacks(offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(offered / "MSRVTT.zip", "w") as archive:
        archive.write(tmp_path / "made" / "videos" / "video0.mp4", "MSRVTT/videos/all/video0.mp4")
    with pytest.raises(SystemExit) as ended:
        run("msrvtt", f"--data.root={tmp_path / 'root'}")
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "1 of 16 videos are there" in out
    assert "`centerclip data verify msrvtt`" in out


def test_a_file_that_is_gone(offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (offered / "MSRVTT.zip").unlink()
    with pytest.raises(SystemExit) as ended:
        run("msrvtt", f"--data.root={tmp_path / 'root'}")
    assert ended.value.code == 2
    assert "MSRVTT.zip: the server says status 404" in capsys.readouterr().err


def test_steps_for_what_owners_want_to_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("lsmdc", f"--data.root={tmp_path / 'root'}")
    out = capsys.readouterr().out
    assert "lsmdc: its owners offer nothing of this by a direct link" in out
    assert "https://sites.google.com/site/describingmovies/download" in out
    assert f"{tmp_path / 'root'}/videos" in out


def test_what_is_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("demo", f"--data.root={tmp_path / 'demo'}")
    assert "nothing to download; it is generated in" in capsys.readouterr().out
    run("custom", f"--data.captions={tmp_path / 'my.csv'}")
    assert "nothing to download; the videos and captions are your own" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_timeout_that_cannot_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("msrvtt", f"--data.root={tmp_path}", "--timeout=0")
    assert ended.value.code == 2
    assert "timeout" in capsys.readouterr().err


def test_interrupted(offered: Path, tmp_path: Path) -> None:
    """By Ctrl-C, while the server is silent: one line, status 130, and the next call goes on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = (
            "import sys\nfrom centerclip_pl.data.download import sources\n"
            f"s = sources.Source('videos', 'http://127.0.0.1:{silent.getsockname()[1]}/MSRVTT.zip', (), ('.mp4',))\n"
            "sources.SOURCES['msrvtt'] = (s,)\nfrom centerclip_pl.cli import main\nmain(sys.argv[1:])\n"
        )
        command = ["data", "download", "msrvtt", f"--data.root={tmp_path / 'root'}", EXPERIMENTS]
        process = subprocess.Popen([sys.executable, "-c", script, *command], stderr=subprocess.PIPE, text=True)
        try:
            silent.settimeout(120)
            connection, _ = silent.accept()
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
            connection.close()
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in err
    assert "Traceback" not in err
