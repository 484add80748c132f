"""What all readers of published datasets must refuse and find, each tried on each."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.data import LSMDC, MSRVTT, MSVD, ActivityNet, DiDeMo, RetrievalDataModule
from centerclip_pl.data.annotations import Annotations, paragraph
from centerclip_pl.errors import DataError

CLASSES: dict[str, type[RetrievalDataModule]] = {
    "msrvtt": MSRVTT,
    "msvd": MSVD,
    "lsmdc": LSMDC,
    "activitynet": ActivityNet,
    "didemo": DiDeMo,
}
FILES: dict[str, list[str]] = {
    "msrvtt": ["MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv", "MSRVTT_data.json"],
    "msvd": ["train_list.txt", "val_list.txt", "test_list.txt", "raw-captions.pkl"],
    "lsmdc": ["LSMDC16_annos_training.csv", "LSMDC16_annos_val.csv", "LSMDC16_challenge_1000_publictect.csv"],
    "activitynet": ["train_ids.json", "val_ids.json", "train.json", "val_1.json", "video_path.json"],
    "didemo": [f"{split}_{what}" for split in ("train", "val", "test") for what in ("data.json", "list.txt")],
}
TEXTS = {"msrvtt": 24, "msvd": 36, "lsmdc": 15, "activitynet": 12, "didemo": 12}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory, write_miniature: Callable[..., dict[str, str]]) -> Path:
    folder = tmp_path_factory.mktemp("miniatures")
    for name in CLASSES:
        write_miniature(name, folder / name)
    return folder


@pytest.fixture
def copy(miniatures: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        shutil.copytree(miniatures / name, tmp_path / name)
        return tmp_path / name

    return make


def read(name: str, root: Path, **options: Any) -> RetrievalDataModule:
    return CLASSES[name](root=str(root), num_workers=0, **options)


@pytest.mark.parametrize("name", CLASSES)
def test_a_miniature_is_read_whole(name: str, miniatures: Path) -> None:
    data = read(name, miniatures / name, val_videos=4)
    data.check()
    held_out = name in ("msrvtt", "activitynet")
    counts = data.counts()
    assert {split: count["videos"] for split, count in counts.items()} == {
        "train": 8 if held_out else 12,
        "val": 4,
        "test": 4,
    }
    assert not data.bad_videos
    tables = data.tables()
    assert len(tables["train"]) == TEXTS[name]
    assert set(tables) == ({"train", "test"} if held_out else {"train", "val", "test"})
    for table in tables.values():
        assert table[["start", "end"]].isna().all(axis=None)
        assert table["path"].map(os.path.isfile).all()
        assert table.groupby("video_id")["path"].nunique().max() == 1
        assert table["path"].nunique() == table["video_id"].nunique()
        assert not table["caption"].str.contains(r"\s\s|\n|^\s|\s$", regex=True).any()


@pytest.mark.parametrize(
    ("name", "protocols"),
    [
        ("msrvtt", ["msrvtt-9k-train", "msrvtt-9k-held-out", "msrvtt-1ka"]),
        ("msvd", ["msvd-train", "msvd-val", "msvd-multi-caption"]),
        ("lsmdc", ["lsmdc-train", "lsmdc-val", "lsmdc-1000"]),
        (
            "activitynet",
            ["activitynet-train-paragraph", "activitynet-held-out-paragraph", "activitynet-val1-paragraph"],
        ),
        ("didemo", ["didemo-train-paragraph", "didemo-val-paragraph", "didemo-test-paragraph"]),
    ],
)
def test_protocols_have_names(name: str, protocols: list[str]) -> None:
    data = read(name, Path("nowhere"))
    assert [data.protocol(split) for split in ("train", "val", "test")] == protocols
    assert read(name, Path("nowhere"), select_on_test=True).protocol("val") == protocols[-1]


def damage(path: Path, how: str) -> str:
    """Damages the file; gives back what the message must say."""
    content = path.read_bytes()
    binary = path.suffix == ".pkl"
    if how == "absent":
        path.unlink()
        return "does not exist"
    if how == "a folder":
        path.unlink()
        path.mkdir()
        return "is a folder, not a file"
    damaged, message = {
        "empty": (b"", "is empty"),
        "blank": (b"\n  \n", "cut off" if binary else "is empty"),
        "cut off": (content[:11], ""),
        "gzip": (gzip.compress(content), "cut off" if binary else "gzip"),
        "png": (PNG, "cut off" if binary else "PNG"),
        "web page": (b"<!doctype html>\n<p>404</p>\n", "cut off" if binary else "web page"),
        "utf-16": ("ä b".encode("utf-16"), "cut off" if binary else "UTF-16"),
        "utf-16 without mark": ("a b".encode("utf-16-le"), "cut off" if binary else "NUL"),
        "latin-1": (content + "\ncafé, señora".encode("latin-1"), "behind" if binary else "not UTF-8 text (byte 0xe9"),
        "other json": (b"[1, 2]", ""),
        "other csv": (b"a,b,c\n1,2,3\n", ""),
    }[how]
    path.write_bytes(damaged)
    return message


WAYS = (
    "absent",
    "a folder",
    "empty",
    "blank",
    "cut off",
    "gzip",
    "png",
    "web page",
    "utf-16",
    "utf-16 without mark",
    "latin-1",
    "other json",
    "other csv",
)


@pytest.mark.parametrize(
    ("name", "file", "how"),
    [
        (name, file, how)
        for name, files in FILES.items()
        for file in files
        for how in WAYS
        if (file, how) != ("video_path.json", "absent")  # it need not be there
    ],
)
def test_bad_files_are_refused_by_name(name: str, file: str, how: str, copy: Callable[[str], Path]) -> None:
    root = copy(name)
    message = damage(root / file, how)
    with pytest.raises(DataError) as caught:
        read(name, root).tables()
    assert message in caught.value.problem
    assert str(root / file) in caught.value.problem or f"in {file}" in caught.value.problem
    begin = "Put " if how == "absent" else "use the " if "have no caption in" in caught.value.problem else "remove "
    assert str(caught.value.next_step).startswith(begin)
    if begin != "Put ":
        assert f"remove {root}" in str(caught.value.next_step)  # what is there is not downloaded again
    assert f"Put {CLASSES[name].__name__.replace('MSRVTT', 'MSR-VTT')} into {root}" in str(caught.value.next_step)


@pytest.mark.parametrize("name", CLASSES)
def test_files_may_begin_with_a_mark_and_end_lines_as_windows_does(name: str, copy: Callable[[str], Path]) -> None:
    root = copy(name)
    before = read(name, root).tables()
    for file in FILES[name]:
        if not file.endswith(".pkl"):
            content = (root / file).read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n")
            (root / file).write_bytes(b"\xef\xbb\xbf" + content)
    after = read(name, root).tables()
    assert all(after[split].equals(before[split]) for split in before)


@pytest.mark.parametrize("name", CLASSES)
def test_annotations_may_lie_in_a_folder_of_their_own(name: str, copy: Callable[[str], Path]) -> None:
    root = copy(name)
    before = read(name, root).tables()
    (root / "annotations").mkdir()
    for file in [path for path in root.iterdir() if path.is_file()]:
        file.rename(root / "annotations" / file.name)
    after = read(name, root).tables()
    assert all(after[split].equals(before[split]) for split in before)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("folder", ["anywhere/else", "linked"])
def test_videos_may_lie_anywhere_below(name: str, folder: str, copy: Callable[[str], Path]) -> None:
    root = copy(name)
    before = read(name, root).tables()["test"]["path"].tolist()
    published = root / ("YouTubeClips" if name == "msvd" else "videos")
    moved = root.parent / "far away" if folder == "linked" else root / folder
    moved.parent.mkdir(parents=True, exist_ok=True)
    published.rename(moved)
    if folder == "linked":
        published.symlink_to(moved, target_is_directory=True)
    after = read(name, root).tables()["test"]["path"].tolist()
    assert [Path(path).name for path in after] == [Path(path).name for path in before]
    assert all(Path(path).is_file() for path in after)


@pytest.mark.parametrize("name", CLASSES)
def test_missing_videos_are_reported_with_what_to_put_where(name: str, copy: Callable[[str], Path]) -> None:
    root = copy(name)
    data = read(name, root, val_videos=4)
    shutil.rmtree(root / ("YouTubeClips" if name == "msvd" else "videos"))
    with pytest.raises(DataError) as caught:
        data.check("test")
    assert "4 of 4 videos cannot be used (4 missing)" in caught.value.problem
    assert f"into {root}" in str(caught.value.next_step)
    assert "http" in str(caught.value.next_step)


@pytest.mark.parametrize("name", CLASSES)
def test_one_missing_video_is_dropped_where_wanted(name: str, copy: Callable[[str], Path]) -> None:
    root = copy(name)
    gone = read(name, root).tables()["test"]["path"].iloc[-1]
    Path(gone).unlink()
    data = read(name, root, on_bad_video="drop", val_videos=4)
    data.check("test")
    assert data.counts()["test"]["videos"] == 3
    assert data.counts()["test"]["missing"] == 1


@given(st.lists(st.text(" a.b\n", max_size=5), max_size=6))
def test_a_paragraph_has_every_word_in_order(sentences: list[str]) -> None:
    assert paragraph(sentences).split() == " ".join(sentences).split()
    assert paragraph(sentences) == paragraph(sentences).strip()


@pytest.mark.parametrize("line", ["a,b", "a\tb", "['a']", '"a"', "[1]", "{"])
def test_a_list_holds_one_name_a_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"first\n\n{line}\n")
    with pytest.raises(DataError, match=r"list\.txt, line 3: not one name a line"):
        Annotations(tmp_path, ["."], "do this").names(file)


def test_lines_end_where_files_end_them(tmp_path: Path) -> None:
    """Sentences may hold characters at which str.splitlines would part them."""
    file = tmp_path / "list.txt"
    file.write_bytes("one\x0b\x85two\u2028three\r\n\r\nfour".encode())
    assert list(Annotations(tmp_path, ["."], "").lines(file)) == [(1, "one\x0b\x85two\u2028three"), (3, "four")]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "c": 2, "a": 1}}]'])
def test_a_key_that_comes_twice_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(DataError, match="'a' comes twice"):
        Annotations(tmp_path, ["."], "").json(file, "of things", lambda value: value)


def test_json_that_is_nested_too_deep(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not the JSON file of things"):
        Annotations(tmp_path, ["."], "").json(file, "of things", json.dumps)
