from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip_pl.data.download.archives import unpack
from centerclip_pl.errors import DataError

FILES = {"videos/a.mp4": random.Random(1).randbytes(70_000), "videos/b.mp4": b"second", "lists/train.txt": b"a\nb\n"}
KINDS = ["zip", "tar", "tar.gz"]


def write_zip(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def write_tar(path: Path, entries: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for entry, content in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write(path: Path, entries: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    listed = list(entries.items()) if isinstance(entries, dict) else entries
    return write_zip(path, list(listed)) if path.suffix == ".zip" else write_tar(path, list(listed))


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, and links by where they lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize("kind", KINDS)
def test_all_files_and_their_sizes(tmp_path: Path, target: Path, kind: str) -> None:
    archive = write(tmp_path / f"data.{kind}", FILES)
    assert unpack(archive, target) == {name: len(content) for name, content in FILES.items()}
    assert tree(target) == FILES
    assert sorted(os.listdir(target)) == ["lists", "videos"]


def test_chosen_by_their_endings(tmp_path: Path, target: Path) -> None:
    mac = {"__MACOSX/videos/._a.mp4": b"?", "videos/._b.mp4": b"?", "videos/C.MP4": b"third"}
    archive = write(tmp_path / "data.zip", FILES | mac)
    assert set(unpack(archive, target, (".mp4",))) == {"videos/a.mp4", "videos/b.mp4", "videos/C.MP4"}
    with pytest.raises(DataError, match=r"holds no file that ends in .avi, .mkv"):
        unpack(archive, target, (".avi", ".mkv"))


def test_dots_in_names_and_folders_are_usual(tmp_path: Path, target: Path) -> None:
    folder = tarfile.TarInfo("./videos")
    folder.type = tarfile.DIRTYPE
    root = tarfile.TarInfo("./")
    root.type = tarfile.DIRTYPE
    archive = write_tar(tmp_path / "data.tar", [(root, b""), (folder, b""), ("./videos/a..b.mp4", b"x")])
    unpack(archive, target)
    assert tree(target) == {"videos/a..b.mp4": b"x"}


UNSAFE_NAMES = {
    "../outside.mp4": "leads out",
    "videos/../../outside.mp4": "leads out",
    "..": "leads out",
    "/etc/passwd": "absolute",
    "C:/windows/x.mp4": "absolute",
    "c:x.mp4": "absolute",
    "..\\outside.mp4": "backslash",
    "videos\\x.mp4": "backslash",
    "new\nline.mp4": "control",
    "x" * 256 + ".mp4": "too long",
    "VIDEOS/A.mp4": "where case does not count",
    "Videos/new.mp4": "where case does not count",
    "videos/a.mp4": "comes twice",
    "./videos//a.mp4": "comes twice",
    "videos": "both a file and a folder",
    "videos/a.mp4/below.mp4": "both a file and a folder",
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", UNSAFE_NAMES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_not_safe_refuses_all(tmp_path: Path, target: Path, name: str, kind: str) -> None:
    archive = write(tmp_path / f"data.{kind}", [*FILES.items(), (name, b"bad")])
    with pytest.raises(DataError, match=f"is not unpacked: .*{UNSAFE_NAMES[name]}") as caught:
        unpack(archive, target)
    assert repr(name)[1:40] in str(caught.value)
    assert tree(tmp_path) == {archive.name: archive.read_bytes()}


def test_accents_written_in_two_ways(tmp_path: Path, target: Path) -> None:
    archive = write(tmp_path / "data.zip", {"caf\u00e9.mp4": b"1", "cafe\u0301.mp4": b"2"})
    with pytest.raises(DataError, match="where case does not count"):
        unpack(archive, target)


def test_a_name_with_nul_in_a_zip(tmp_path: Path, target: Path) -> None:
    archive = write(tmp_path / "data.zip", {"good.mp4_x": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"good.mp4_x", b"good.mp4\0x"))
    with pytest.raises(DataError, match="control characters"):
        unpack(archive, target)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([(link("videos/l.mp4", "/etc/passwd"), b"")], "it is a link"),
        ([(link("videos/l.mp4", "a.mp4"), b"")], "it is a link"),
        ([(link("videos/l.mp4", "videos/a.mp4", tarfile.LNKTYPE), b"")], "it is a link"),
        ([(link("out", "/tmp"), b""), ("out/x.mp4", b"through the link")], "it is a link"),
        ([(link("pipe", "", tarfile.FIFOTYPE), b"")], "it is a device"),
        ([(link("disk", "", tarfile.BLKTYPE), b"")], "it is a device"),
        ([(link("tty", "", tarfile.CHRTYPE), b"")], "it is a device"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, target: Path, entries: list, problem: str) -> None:
    archive = write_tar(tmp_path / "data.tar", [*FILES.items(), *entries])
    with pytest.raises(DataError, match=problem):
        unpack(archive, target)
    assert tree(target) == {}


@pytest.mark.parametrize(("mode", "problem"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device")])
def test_links_and_devices_in_a_zip(tmp_path: Path, target: Path, mode: int, problem: str) -> None:
    info = zipfile.ZipInfo("structured/list.txt")
    info.external_attr = (mode | 0o777) << 16
    archive = write_zip(tmp_path / "data.zip", [*FILES.items(), (info, b"/etc/passwd")])
    with pytest.raises(DataError, match=f"'structured/list.txt' is not unpacked: it is {problem}"):
        unpack(archive, target)
    assert tree(target) == {}
    unpack(archive, target, (".mp4",))  # of what is left out, only the names matter
    assert set(tree(target)) == {"videos/a.mp4", "videos/b.mp4"}


def test_a_file_under_a_password(tmp_path: Path, target: Path) -> None:
    archive = write(tmp_path / "data.zip", {"a.mp4": b"content"})
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    with pytest.raises(DataError, match="under a password"):
        unpack(archive, target)


def test_a_link_in_the_target_that_leads_out_of_it(tmp_path: Path, target: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (target / "videos").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"would be unpacked outside of .* to .*elsewhere"):
        unpack(write(tmp_path / "data.tar", FILES), target)
    assert tree(tmp_path / "elsewhere") == {}
    (target / "videos").unlink()
    (target / "videos").mkdir()
    (target / "videos" / "b.mp4").symlink_to(tmp_path / "elsewhere" / "b.mp4")
    with pytest.raises(DataError, match=r"videos/b.mp4 is there, and is not what data.tar holds"):
        unpack(tmp_path / "data.tar", target)
    assert tree(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb(tmp_path: Path, target: Path, kind: str) -> None:
    archive = write(tmp_path / f"data.{kind}", {f"{k}.mp4": bytes(4_000_000) for k in range(10)})
    assert archive.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"up to here there are \d members of .* MB in an archive of"):
        unpack(archive, target)
    assert tree(target) == {}


def test_more_bytes_than_declared(tmp_path: Path, target: Path) -> None:
    archive = write(tmp_path / "data.zip", {"a.mp4": bytes(range(256)) * 40})
    raw = archive.read_bytes()
    size = (256 * 40).to_bytes(4, "little")
    archive.write_bytes(raw.replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, target)
    assert tree(target) == {}


def test_fewer_bytes_than_declared(tmp_path: Path, target: Path) -> None:
    archive = write(tmp_path / "data.zip", {"a.mp4": bytes(range(256)) * 40})
    raw = archive.read_bytes()
    size = (256 * 40).to_bytes(4, "little")
    archive.write_bytes(raw.replace(size, (256 * 41).to_bytes(4, "little")))
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, target)
    assert tree(target) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_anywhere(tmp_path: Path, target: Path, kind: str) -> None:
    """Also between two members of a tar file, which tarfile takes for its end."""
    whole = write(tmp_path / f"data.{kind}", FILES).read_bytes()
    ends = {0, 1, 511, 512, 513, 1024, len(whole) // 2, len(whole) - 1, *range(0, len(whole), 512 * 7)}
    if kind == "tar":  # the two blocks of zeros are padded to a record; without that padding nothing is missing
        with tarfile.open(tmp_path / "data.tar") as written:
            last = written.getmembers()[-1].offset_data
        ends = {end for end in ends if end < last + 1024}
    for end in sorted(ends - {len(whole)}):
        (tmp_path / f"data.{kind}").write_bytes(whole[:end])
        with pytest.raises(DataError, match="damaged or cut off"):
            unpack(tmp_path / f"data.{kind}", target)
        assert list(target.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_never_end_in_another_error(tmp_path: Path, target: Path, kind: str) -> None:
    archive = write(tmp_path / f"data.{kind}", {"a.txt": b"hello " * 40, "b/c.txt": b"x" * 100})
    whole = archive.read_bytes()
    random_of = random.Random(2)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(random_of.choice((1, 3, 20))):
            damaged[random_of.randrange(min(len(whole), 2500))] = random_of.randrange(256)
        archive.write_bytes(damaged)
        try:
            unpack(archive, target)
        except DataError:
            refused += 1
            assert list(target.iterdir()) == []
        assert set(os.listdir(tmp_path)) == {archive.name, "target"}
        shutil.rmtree(target)
        target.mkdir()
    assert refused > 50


def test_neither_zip_nor_tar(tmp_path: Path, target: Path) -> None:
    for name in ("page.zip", "page.tar", "page.tar.gz"):
        (tmp_path / name).write_text("<html>not found</html>" * 100)
        with pytest.raises(DataError, match="damaged or cut off"):
            unpack(tmp_path / name, target)
    (tmp_path / "page.rar").write_text("")
    with pytest.raises(DataError, match=r"neither .zip nor .tar"):
        unpack(tmp_path / "page.rar", target)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_compared_and_left(tmp_path: Path, target: Path, kind: str) -> None:
    archive = write(tmp_path / f"data.{kind}", FILES)
    unpack(archive, target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.mp4")}
    (target / "lists" / "train.txt").unlink()
    (target / "videos" / "mine.mp4").write_bytes(b"mine")
    unpack(archive, target)
    assert tree(target) == FILES | {"videos/mine.mp4": b"mine"}
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("content", [b"longer than it was", b"SECOND"])
def test_another_file_is_not_written_over(tmp_path: Path, target: Path, content: bytes) -> None:
    archive = write(tmp_path / "data.zip", FILES)
    (target / "videos").mkdir()
    (target / "videos" / "b.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"videos/b.mp4 is there, and is not what data.zip holds"):
        unpack(archive, target)
    assert tree(target) == {"videos/b.mp4": content}


@pytest.mark.parametrize("place", ["videos", "videos/b.mp4"])
def test_a_folder_in_place_of_a_file_and_the_reverse(tmp_path: Path, target: Path, place: str) -> None:
    archive = write(tmp_path / "data.zip", FILES)
    if place == "videos":
        (target / "videos").write_text("a file")
    else:
        (target / place).mkdir(parents=True)
    with pytest.raises(DataError, match=f"{place} is there, and is not what"):
        unpack(archive, target)
    assert not (target / "lists").exists()


def test_too_little_room(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 950_000, 50_000))
    with pytest.raises(DataError, match=r"has 50 kB left on its disk; 70\.01 kB are needed to unpack"):
        unpack(write(tmp_path / "data.zip", FILES), target)
    assert tree(target) == {}


def test_a_disk_that_fills_up(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write(tmp_path / "data.tar", FILES)
    write_bytes: Callable = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) > 1000:
            return write_bytes(file, data[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DataError, match="disk is full"):
        unpack(archive, target)
    monkeypatch.undo()
    assert list(target.iterdir()) == []
    unpack(archive, target)
    assert tree(target) == FILES


def test_what_an_ended_process_left_is_cleared(tmp_path: Path, target: Path) -> None:
    archive = write(tmp_path / "data.zip", FILES)
    (target / ".unpacking-data.zip" / "videos").mkdir(parents=True)
    (target / ".unpacking-data.zip" / "videos" / "a.mp4").write_bytes(b"half")
    unpack(archive, target)
    assert tree(target) == FILES


def test_killed_while_unpacking(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for k in range(400):
            file.writestr(f"videos/{k}.mp4", random.Random(k).randbytes(200_000))
    script = "import sys; from pathlib import Path; from centerclip_pl.data.download.archives import unpack; "
    script += "unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", script, str(archive), str(target)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list(target.glob(".unpacking-data.zip/videos/*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert not (target / "videos").exists()
    assert len(unpack(archive, target)) == 400
    assert sorted(os.listdir(target)) == ["videos"]


def test_two_processes_do_not_unpack_into_one_folder(tmp_path: Path, target: Path) -> None:
    archive = write(tmp_path / "data.zip", FILES)
    other = os.open(target, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is unpacking"):
            unpack(archive, target)
    finally:
        os.close(other)
    unpack(archive, target)
