from __future__ import annotations

import logging
import os
import pickle
import shutil
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centerclip_pl.data import MSVD
from centerclip_pl.data.pickles import read_pickled_captions
from centerclip_pl.errors import DataError

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations" / "msvd"
CAPTIONS = {"vid_1_2": [["a", "man"], ["café", "olé"]], "vid_3_4": [["two", "dogs"]]}
SENTENCES = {"vid_1_2": ["a man", "café olé"], "vid_3_4": ["two dogs"]}


def python2(encoding: str, text: bytes = b"") -> bytes:
    """`CAPTIONS` as Python 2 wrote its two kinds of text: in protocol 2 with `str`, in 0 with `str` or `unicode`."""

    def short(word: str) -> bytes:
        return b"U" + struct.pack("<B", len(word.encode(encoding))) + word.encode(encoding)

    body = b"\x80\x02}q\x00("
    for key, captions in CAPTIONS.items():
        body += short(key) + b"]("
        for words in captions:
            body += b"](" + b"".join(map(short, words)) + b"e"
        body += b"e"
    return body + b"u."


def python2_protocol0(unicode: bool) -> bytes:
    def line(word: str) -> bytes:
        if unicode:
            return b"V" + word.encode("raw-unicode-escape") + b"\n"
        return b"S" + repr(word.encode()).encode()[1:] + b"\n"

    body = b"(dp0\n"
    for key, captions in CAPTIONS.items():
        body += line(key) + b"(l"
        for words in captions:
            body += b"(l" + b"".join(line(word) + b"a" for word in words) + b"a"
        body += b"s"
    return body + b"."


def as_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.encode(): as_bytes(item) for key, item in value.items()}
    return [as_bytes(item) for item in value] if isinstance(value, list) else value.encode()


GOOD = {
    **{f"protocol {k}": pickle.dumps(CAPTIONS, protocol=k) for k in range(6)},
    **{f"bytes, protocol {k}": pickle.dumps(as_bytes(CAPTIONS), protocol=k) for k in range(6)},
    "tuples": pickle.dumps({key: tuple(map(tuple, value)) for key, value in CAPTIONS.items()}),
    "python 2, utf-8": python2("utf-8"),
    "python 2, latin-1": python2("latin-1"),
    "python 2, protocol 0": python2_protocol0(unicode=False),
    "python 2, protocol 0, unicode": python2_protocol0(unicode=True),
}


@pytest.mark.parametrize("kind", GOOD)
def test_captions_of_every_age_are_read(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "raw-captions.pkl"
    file.write_bytes(GOOD[kind])
    assert read_pickled_captions(file, "") == SENTENCES


class Reduces:
    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.said = (function, arguments)

    def __reduce__(self) -> Any:
        return self.said


def programs(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would run something, by opcode, and what the message names."""
    command = f"touch {marker}"
    raw = command.encode()
    return {
        "GLOBAL and REDUCE": (b"cposix\nsystem\n(V" + raw + b"\ntR.", "posix.system"),
        "INST": (b"(V" + raw + b"\niposix\nsystem\n.", "posix.system"),
        "OBJ": (b"(cposix\nsystem\nV" + raw + b"\no.", "posix.system"),
        "STACK_GLOBAL": (pickle.dumps(Reduces(os.system, (command,)), protocol=4), f"{os.system.__module__}.system"),
        "eval within captions": (
            pickle.dumps({"vid": [["a", Reduces(eval, ("1 + 1",))]]}, protocol=2),
            "eval",
        ),
        "NEWOBJ": (pickle.dumps(OrderedDict(a=1), protocol=4), "collections.OrderedDict"),
        "BUILD": (b"ccopyreg\n_reconstructor\n(c__main__\nX\nc__builtin__\nobject\nNtR}b.", "copyreg._reconstructor"),
        "only a name": (b"cos\nsystem\n.", "os.system"),
        "attribute of a function": (b"\x80\x04\x8c\x07_codecs\x8c\x12encode.__globals__\x93.", "encode.__globals__"),
        "python 2's name": (b"c__builtin__\nexecfile\n(V/etc/passwd\ntR.", "__builtin__.execfile"),
    }


@pytest.mark.parametrize("kind", programs(Path("x")))
def test_code_is_not_run_but_named(kind: str, tmp_path: Path) -> None:
    content, named = programs(tmp_path / "ran")[kind]
    file = tmp_path / "raw-captions.pkl"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_pickled_captions(file, "get it from there")
    assert str(file) in caught.value.problem
    assert named in caught.value.problem
    assert "get it from there" in str(caught.value.next_step)
    assert not (tmp_path / "ran").exists()


def nested_lists(levels: int) -> bytes:
    """A list of ten times the same list of ten times the same list ..., which stays on the stack."""
    steps = (b"](" + b"h%c" % k * 10 + b"eq%c0" % (k + 1) for k in range(levels))
    return b"]q\x000" + b"".join(steps) + b"h%c" % levels


def many_references(number: int) -> bytes:
    word = b"X" + struct.pack("<I", number) + b"w" * number + b"q\x000"
    return b"\x80\x02" + word + b"](" + b"h\x00" * number + b"eq\x010}X\x01\x00\x00\x00a](" + b"h\x01" * number + b"es."


def many_encodings(number: int) -> bytes:
    """As many times the same long text, made bytes anew each time."""
    text = b"X" + struct.pack("<I", number) + b"w" * number + b"X\x06\x00\x00\x00latin1\x86q\x010"
    return encode_and(b"q\x000" + text + b"](" + b"h\x00h\x01R" * number + b"e")


def encode_and(more: bytes) -> bytes:
    return b"\x80\x02c_codecs\nencode\n" + more + b"."


@pytest.mark.parametrize(
    "content",
    [
        encode_and(b"X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R"),  # another codec
        encode_and(b"N}X\x08\x00\x00\x00__call__K\x01s\x86b"),  # a state for the one function that is known
        encode_and(b""),  # the function itself as the value
        b"\x82\x01.",  # EXT1
        b"\x80\x02}r\xff\xff\xff\xff]r\x00\x00\x00\x80.",  # places in the memo for which no memory would do
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0fa.",  # a text that is longer than any memory
        b"P1\n.",  # a persistent id
        b"}}b.",  # a state for a dict
        b"(.",
        b"N.",
        b"].",
        b"}.",
        b"I1\n.",
        b"garbage",
        pickle.dumps({"vid": "a man"}),
        pickle.dumps({"vid": ["a man"]}),
        pickle.dumps({"vid": [["a", 1]]}),
        pickle.dumps({"vid": {"a": "b"}}),
        pickle.dumps({7: [["a"]]}),
        pickle.dumps({"vid": [["a"]], b"vid": [["b"]]}),
        pickle.dumps([["vid", [["a"]]]]),
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # BYTEARRAY8, for which memory is set aside at once
        b"\x80\x04})" + b"\x85" * 1_000_000 + b"]s.",  # a key whose hash ends the process
        b"\x80\x04})\x940"
        + b"".join(b"h%ch%c\x86\x940" % (k, k) for k in range(60))
        + b"h\x3c]s.",  # ... takes for ever
        b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 100_000 + b"a" * 99_999 + b"s.",  # lists in lists
        b"\x80\x02}X\x01\x00\x00\x00a" + nested_lists(40) + b"s.",  # 10^40 lists, if they were written out
        b"\x80\x02}X\x01\x00\x00\x00a\x8b" + struct.pack("<i", 10_000) + b"\x7f" * 10_000 + b"s.",  # a long number
        b"\x80\x04\x8f(K\x01\x90.",  # a set
        many_encodings(100_000),
        many_references(50_000),  # 50,000 captions of 50,000 words each, in 300 kB
        pickle.dumps(CAPTIONS) + b"more",
        pickle.dumps(CAPTIONS)[:-1],
    ],
)
def test_what_is_no_dict_of_captions_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "raw-captions.pkl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"raw-captions\.pkl") as caught:
        read_pickled_captions(file, "get it from there")
    assert "get it from there" in str(caught.value.next_step)
    assert len(str(caught.value)) < 1000
    file.write_bytes(GOOD["bytes, protocol 2"])
    assert read_pickled_captions(file, "") == SENTENCES  # nothing that came before has changed how it is read


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.integers(0, 400), st.integers(0, 255), st.booleans())
def test_damage_ends_in_one_error_or_in_captions(
    tmp_path_factory: pytest.TempPathFactory, kind: str, place: int, byte: int, cut: bool
) -> None:
    content = bytearray(GOOD[kind])
    place %= len(content)
    content[place] = byte
    file = tmp_path_factory.getbasetemp() / "damaged.pkl"
    file.write_bytes(content[: place + 1] if cut else content)
    try:
        captions = read_pickled_captions(file, "")
    except DataError:  # and nothing else
        return
    assert all(isinstance(text, str) for texts in captions.values() for text in texts)


@pytest.fixture
def root(tmp_path: Path, write_miniature: Callable[..., dict[str, str]]) -> Path:
    write_miniature("msvd", tmp_path / "msvd")
    return tmp_path / "msvd"


def test_every_caption_of_a_test_video_is_a_query(root: Path) -> None:
    table = MSVD(str(root)).tables()["test"]
    assert table.groupby("video_id", sort=False).size().tolist() == [3, 4, 2, 3]  # 2 + k % 3 for k = 16 ... 19
    first = table[table["video_id"] == "-16YouTubeId_16_25"]["caption"].tolist()
    assert first == [f"a man counts 16 of {c}" for c in range(3)]


def test_ids_without_captions_are_named(root: Path) -> None:
    (root / "val_list.txt").write_text("-12YouTubeId_12_21\nsilent_0_1\n")
    with pytest.raises(DataError, match=r"val_list\.txt: 1 of 2 videos have no caption in raw-captions\.pkl") as caught:
        MSVD(str(root)).tables()
    assert "silent_0_1" in caught.value.problem


def test_a_name_that_comes_twice(root: Path) -> None:
    with (root / "train_list.txt").open("a") as file:
        file.write("\n-3YouTubeId_3_12")
    with pytest.raises(DataError, match=r"train_list\.txt, lines 4 and 13: -3YouTubeId_3_12 comes twice"):
        MSVD(str(root)).tables()


def test_a_video_in_two_splits(root: Path) -> None:
    shutil.copy(root / "val_list.txt", root / "test_list.txt")
    with pytest.raises(DataError, match="4 videos are in both val and test"):
        MSVD(str(root)).check("test")


def test_captions_without_words_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    captions = pickle.loads((root / "raw-captions.pkl").read_bytes())
    captions["-12YouTubeId_12_21"] += [[], [" "]]
    (root / "raw-captions.pkl").write_bytes(pickle.dumps(captions))
    with caplog.at_level(logging.WARNING):
        table = MSVD(str(root)).tables()["val"]
    assert (table["video_id"] == "-12YouTubeId_12_21").sum() == 2
    assert "2 captions of the val split have no words" in caplog.text
    captions["-12YouTubeId_12_21"] = [[]]
    (root / "raw-captions.pkl").write_bytes(pickle.dumps(captions))
    with pytest.raises(DataError, match="1 of 4 videos have no caption"):
        MSVD(str(root)).tables()


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"the published annotations are not at {ANNOTATIONS}")
def test_real_annotations(tmp_path: Path) -> None:
    ids = {}
    for split in ("train", "val", "test"):
        shutil.copy(ANNOTATIONS / f"{split}_list.txt", tmp_path)
        ids[split] = (ANNOTATIONS / f"{split}_list.txt").read_text().split()
    captions = {name: [[name, "caption", str(c)] for c in range(40)] for names in ids.values() for name in names}
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(captions, protocol=2))
    (tmp_path / "YouTubeClips").mkdir()
    (tmp_path / "YouTubeClips" / f"{ids['test'][0]}.avi").touch()
    tables = MSVD(str(tmp_path)).tables()
    assert {split: table["video_id"].nunique() for split, table in tables.items()} == {
        "train": 1200,
        "val": 100,
        "test": 670,
    }
    for split, table in tables.items():
        assert table["video_id"].drop_duplicates().tolist() == ids[split]
        assert len(table) == 40 * len(ids[split])
    assert tables["test"]["path"].iloc[0] == str(tmp_path / "YouTubeClips" / f"{ids['test'][0]}.avi")
    assert not {*ids["train"]} & {*ids["val"]} | {*ids["train"]} & {*ids["test"]} | {*ids["val"]} & {*ids["test"]}
