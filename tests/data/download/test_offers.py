from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.data import MSRVTT, MSVD, DiDeMo
from centerclip_pl.data.download.fetching import Patience
from centerclip_pl.data.download.offers import look, obtain
from centerclip_pl.data.download.sources import PARTS, SOURCES, STEPS, Source
from centerclip_pl.errors import DataError

QUICK = Patience(tries=2, timeout=5.0, first_wait=0.01)
WriteMiniature = Callable[[str, Path], dict[str, str]]


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def published(tmp_path: Path, write_miniature: WriteMiniature) -> Callable[[str], dict[str, bytes]]:
    """The files of a dataset in small, by their paths below its root."""

    def files(name: str) -> dict[str, bytes]:
        folder = tmp_path / "published" / name
        write_miniature(name, folder)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return files


def serve(server: Any, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, bytes]) -> tuple[Source, ...]:
    """The sources of a dataset, from this machine."""
    local = []
    for source in SOURCES[name]:
        server.files[f"/{source.file}"] = files[source.file]
        local.append(Source(source.part, f"{server.url}/{source.file}", source.gives, source.suffixes))
    monkeypatch.setitem(SOURCES, name, tuple(local))
    return tuple(local)


def msrvtt(files: dict[str, bytes]) -> dict[str, bytes]:
    """The two archives in the layout of the published ones."""
    lists = {f"msrvtt_data/{name}": content for name, content in files.items() if not name.endswith(".mp4")}
    videos = {f"MSRVTT/videos/all/{Path(name).name}": content for name, content in files.items() if ".mp4" in name}
    other = {"MSRVTT/annotation/MSR_VTT.json": b"{}", "__MACOSX/MSRVTT/videos/all/._video0.mp4": b"?"}
    return {"msrvtt_data.zip": zipped(lists), "MSRVTT.zip": zipped(videos | other)}


def test_msr_vtt_as_published(
    server: Any,
    tmp_path: Path,
    published: Callable[[str], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    tokenizer_folder: str,
) -> None:
    sources = serve(server, monkeypatch, "msrvtt", msrvtt(published("msrvtt")))
    data = MSRVTT(str(tmp_path / "root"), tokenizer=tokenizer_folder, val_videos=4)
    state = look(data)
    assert (state.absent, state.there, state.steps, state.videos) == (sources, (), (), None)
    assert "does not exist" in str(state.problem)
    assert [obtain(source, data.root, patience=QUICK) for source in sources] == [4, 16]
    state = look(data)
    assert (state.absent, state.there, state.videos, state.problem) == ((), sources, (16, 16), None)
    assert sorted(path.name for path in (data.root / "downloads").iterdir()) == [
        *("MSRVTT.zip.json", "MSRVTT.zip.unpacked.json", "msrvtt_data.zip.json", "msrvtt_data.zip.unpacked.json")
    ]
    assert not (data.root / "MSRVTT" / "annotation").exists()
    data.check("test")

    (data.root / "MSRVTT/videos/all/video3.mp4").unlink()
    state = look(data)
    assert (state.absent, state.videos) == (sources[1:], (15, 16))
    assert obtain(sources[1], data.root, keep_archive=True, patience=QUICK) == 16
    assert look(data).videos == (16, 16)
    assert (data.root / "downloads" / "MSRVTT.zip").read_bytes() == server.files["/MSRVTT.zip"]


def test_files_that_the_user_put_there_are_enough(
    tmp_path: Path, write_miniature: WriteMiniature, tokenizer_folder: str
) -> None:
    options = write_miniature("msrvtt", tmp_path / "root")
    data = MSRVTT(str(tmp_path / "root"), tokenizer=tokenizer_folder, val_videos=int(options["val_videos"]))
    state = look(data)
    assert (state.absent, len(state.there), state.videos) == ((), 2, (16, 16))
    assert not (tmp_path / "root" / "downloads").exists()


def test_an_archive_without_some_videos_is_not_fetched_again(
    server: Any,
    tmp_path: Path,
    published: Callable[[str], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    tokenizer_folder: str,
) -> None:
    files = published("msvd")
    names = sorted(name for name in files if name.endswith(".avi"))
    archives = {
        "msvd_data.zip": zipped({f"msvd_data/{name}": files[name] for name in files if name not in names}),
        "YouTubeClips.tar": tarred({name: files[name] for name in names[1:]}),
    }
    sources = serve(server, monkeypatch, "msvd", archives)
    data = MSVD(str(tmp_path / "root"), tokenizer=tokenizer_folder)
    for source in sources:
        obtain(source, data.root, patience=QUICK)
    state = look(data)
    assert (state.absent, state.videos) == ((), (len(names) - 1, len(names)))
    (data.root / "downloads" / "YouTubeClips.tar.unpacked.json").write_text("[")
    assert look(data).absent == sources[1:]


def test_single_files(
    server: Any,
    tmp_path: Path,
    published: Callable[[str], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    tokenizer_folder: str,
) -> None:
    files = published("didemo")
    sources = serve(server, monkeypatch, "didemo", files)
    data = DiDeMo(str(tmp_path / "root"), tokenizer=tokenizer_folder)
    for source in sources:
        assert obtain(source, data.root, patience=QUICK) == 1
    assert {source.file for source in sources} == {path.name for path in data.root.iterdir() if path.is_file()}
    state = look(data)
    assert (state.absent, state.videos) == ((), (0, 20))
    assert state.steps == STEPS["didemo"]
    assert look(data, ("annotations",)).steps == ()
    shutil.copytree(tmp_path / "published" / "didemo" / "videos", data.root / "videos")
    assert (look(data).steps, look(data).videos) == ((), (20, 20))


@pytest.mark.parametrize("content", [b'[{"video": "a.mp4", "descr', b"", b"\xff\xfe\x00", b"  \n"])
def test_a_text_that_is_cut_off(server: Any, tmp_path: Path, content: bytes) -> None:
    server.files["/list.json"] = content
    source = Source("annotations", f"{server.url}/list.json", ("list.json",))
    with pytest.raises(DataError, match=r"damaged or cut off|an empty file"):
        obtain(source, tmp_path, patience=QUICK)
    assert not (tmp_path / "list.json").exists()
    for file in (tmp_path / "downloads").glob("list.json"):
        file.unlink()  # as the message says
    server.files["/list.json"], server.etag = b"[]", '"second"'
    assert obtain(source, tmp_path, patience=QUICK) == 1


def test_an_archive_of_which_the_server_announced_too_little(server: Any, answer: Any, tmp_path: Path) -> None:
    server.files["/a.zip"] = zipped({"a.csv": b"video_id\n" * 500, "b.csv": b"video_id\n"})
    source = Source("annotations", f"{server.url}/a.zip", ("a.csv",), (".csv",))
    server.answers = [answer(headers={"Content-Length": "200"})]
    with pytest.raises(DataError, match=r"a.zip is damaged or cut off"):
        obtain(source, tmp_path, patience=QUICK)
    assert not (tmp_path / "a.csv").exists()
    (tmp_path / "downloads" / "a.zip").unlink()
    assert obtain(source, tmp_path, patience=QUICK) == 2


def test_an_archive_that_the_user_fetched_is_taken(server: Any, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip").write_bytes(zipped({"a.csv": b"video_id\n"}))
    source = Source("annotations", f"{server.url}/a.zip", ("a.csv",), (".csv",))
    assert obtain(source, tmp_path, patience=QUICK) == 1
    assert server.requests == []


@pytest.mark.parametrize("name", SOURCES)
def test_the_table_of_sources(name: str) -> None:
    for source in SOURCES[name]:
        assert source.url.startswith("https://")
        assert source.gives if source.part == "annotations" else source.suffixes
        assert bool(source.suffixes) == source.is_archive
        assert source.is_archive or source.gives == (source.file,)
    covered = {source.part for source in SOURCES[name]} | {part for step in STEPS.get(name, ()) for part in step.parts}
    assert covered == set(PARTS)
    assert len({source.file for source in SOURCES[name]}) == len(SOURCES[name])
    for step in STEPS.get(name, ()):
        assert "/data/here" in step.text.format(root="/data/here")


def test_what_is_to_be_had_is_what_the_readers_read(tmp_path: Path, write_miniature: WriteMiniature) -> None:
    for name, sources in SOURCES.items():
        write_miniature(name, tmp_path / name)
        for source in sources:
            assert all((tmp_path / name / file).is_file() for file in source.gives), (name, source)
    assert json.dumps(sorted(SOURCES)) == '["activitynet", "didemo", "lsmdc", "msrvtt", "msvd"]'
