from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.data import Custom
from centerclip_pl.errors import ConfigError, DataError

MakeVideo = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, make_video: MakeVideo) -> Path:
    for name in ("a", "b", "c"):
        make_video(tmp_path / f"{name}.mp4", 24, fps=12)
    return tmp_path


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_text(text, encoding=encoding)
    return str(path)


def tables(captions: str, **options: Any) -> dict[str, list[list[Any]]]:
    return {
        split: table[["video_id", "path", "caption"]].values.tolist()
        for split, table in Custom(captions, **{"test_videos": 0, **options}).tables().items()
    }


def test_csv_with_splits_and_commas(folder: Path) -> None:
    file = write(
        folder / "x.csv", 'video,caption,split\na.mp4,"one, two",train\nb.mp4,three,\nb.mp4,four,test\n', "utf-8-sig"
    )
    assert tables(file, split="test") == {
        "train": [["a.mp4", str(folder / "a.mp4"), "one, two"]],
        "test": [["b.mp4", str(folder / "b.mp4"), "three"], ["b.mp4", str(folder / "b.mp4"), "four"]],
    }


def test_jsonl_and_tsv_say_the_same(folder: Path) -> None:
    rows = [
        {"video": "a.mp4", "caption": "über alles", "split": "train"},
        {"video": "b.mp4", "caption": "two", "split": "val", "start": 0.5, "end": 1.5},
    ]
    jsonl = write(folder / "x.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    tsv = write(
        folder / "x.tsv", "video\tcaption\tsplit\tstart\tend\na.mp4\tüber alles\ttrain\t\t\nb.mp4\ttwo\tval\t0.5\t1.5\n"
    )
    assert tables(jsonl) == tables(tsv)
    assert tables(jsonl)["val"][0][0] == "b.mp4@0.5-1.5"
    table = Custom(jsonl).tables()["val"]
    assert table[["start", "end"]].values.tolist() == [[0.5, 1.5]]


def test_clips_of_one_file_are_videos_of_their_own(folder: Path, tokenizer_folder: str) -> None:
    file = write(
        folder / "x.csv", "video,caption,start,end\na.mp4,one,0,1\na.mp4,uno,0,1\na.mp4,two,1,\nb.mp4,three,,\n"
    )
    data = Custom(file, tokenizer=tokenizer_folder, val_videos=1, num_frames=4, image_size=8, num_workers=0)
    data.check()
    assert [len(data.videos(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    assert sorted(data.videos("train") + data.videos("val") + data.videos("test")) == [
        "a.mp4@0-1",
        "a.mp4@1-",
        "b.mp4",
    ]
    sizes = {split: (count["videos"], count["texts"]) for split, count in data.counts().items()}
    assert sum(videos for videos, _ in sizes.values()) == 3
    assert sum(texts for _, texts in sizes.values()) == 4


def test_ids_do_not_depend_on_how_numbers_are_spelled_nor_on_other_rows(folder: Path) -> None:
    text = "video,caption,start,end\na.mp4,one,1,2.50\na.mp4,two,1.0,2.5\na.mp4,three,,3\na.mp4,four,12345.678,20000\n"
    ids = ["a.mp4@1-2.5", "a.mp4@1-2.5", "a.mp4@-3", "a.mp4@12345.678-20000"]
    assert Custom(write(folder / "x.csv", text), test_videos=0).tables()["train"]["video_id"].tolist() == ids
    rows = [
        {"video": "a.mp4", "caption": "one", "start": 1, "end": 2},
        {"video": "b.mp4", "caption": "x", "video_id": 7},
    ]
    for used in (rows, rows[:1], [*rows, {"video": "c.mp4", "caption": "x"}]):
        file = write(folder / "x.jsonl", "\n".join(map(json.dumps, used)))
        table = Custom(file, test_videos=0).tables()["train"]
        assert table["video_id"].tolist() == ["a.mp4@1-2", "7", "c.mp4"][: len(used)]


def test_a_name_that_no_file_can_have(folder: Path) -> None:
    file = write(folder / "x.csv", f"video,caption\n{'a' * 5000}.mp4,one\n")
    table = Custom(file, root=str(folder.parent), test_videos=0).tables()["train"]
    assert table["path"].tolist() == [str(folder / f"{'a' * 5000}.mp4")]


def test_own_ids_and_further_columns_are_kept(folder: Path) -> None:
    file = write(folder / "x.csv", "video_id,video,caption,tag,note\nfirst,a.mp4,one,order,n\n,b.mp4,two,,\n")
    table = Custom(file, test_videos=0).tables()["train"]
    assert table["video_id"].tolist() == ["first", "b.mp4"]
    assert table["tag"].tolist() == ["order", ""]
    assert table["note"].tolist() == ["n", ""]


def many(folder: Path, head: str = "video,caption", tail: str = "") -> str:
    rows = [f"v{k}.mp4,caption {c}{tail}" for k in range(40) for c in range(2)]
    return write(folder / "many.csv", "\n".join([head, *rows]) + "\n")


@pytest.mark.parametrize(("head", "tail"), [("video,caption", ""), ("video,caption,split", ",")])
def test_without_a_split_a_part_is_held_out_to_test_on(tmp_path: Path, head: str, tail: str) -> None:
    file = many(tmp_path, head, tail)
    parts = {split: set(table["video_id"]) for split, table in Custom(file).tables().items()}
    assert {split: len(videos) for split, videos in parts.items()} == {"train": 36, "test": 4}
    assert len(parts["train"] | parts["test"]) == 40
    again = Custom(file, test_videos=4).tables()
    assert set(again["test"]["video_id"]) == parts["test"]
    assert len(again["test"]) == 8
    assert Custom(file).protocol("test") == "custom:many.csv:test:held-out-0.1"
    assert Custom(file).protocol("val") == "custom:many.csv:val"
    assert set(Custom(file, test_videos=0).tables()) == {"train"}
    assert set(Custom(file, split="test").tables()) == {"test"}
    assert Custom(file, split="test").protocol("test") == "custom:many.csv:test"
    with pytest.raises(ConfigError, match="test_videos=-1: at least one video"):
        Custom(file, test_videos=-1).tables()
    with pytest.raises(DataError, match="test_videos=40 would hold out all 40"):
        Custom(file, test_videos=40).tables()


@pytest.mark.parametrize("options", [{}, {"test_videos": 0.5}])
def test_nothing_is_held_out_where_the_file_names_splits(tmp_path: Path, options: Any) -> None:
    file = write(tmp_path / "x.csv", "video,caption,split\na.mp4,one,train\nb.mp4,two,\nc.mp4,three,train\n")
    assert set(Custom(file, **options).tables()) == {"train"}


def test_what_will_be_tested_needs_test_videos(folder: Path) -> None:
    file = write(folder / "x.csv", "video,caption,split\na.mp4,one,train\nb.mp4,two,train\n")
    Custom(file).check("fit")
    for data in (Custom(file), Custom(file, test_videos=0)):
        with pytest.raises(DataError, match="no test split; it has train, val") as caught:
            data.check("fit", and_test=True)
        assert data.counts() == {}  # before any video was looked at
    for part in ("column split", "x.csv", "`fit`, which does not test"):
        assert part in str(caught.value.next_step)
    file = write(folder / "y.csv", "video,caption\na.mp4,one\nb.mp4,two\nc.mp4,three\n")
    data = Custom(file)
    data.check("fit", and_test=True)
    assert list(data.counts()) == ["train", "val", "test"]
    with pytest.raises(DataError, match="select_on_test=true") as caught:
        Custom(file, test_videos=0, select_on_test=True).check("fit")
    assert "column split" in str(caught.value.next_step)


def test_files_are_looked_for_beside_the_captions_and_then_in_root(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (folder / "b.mp4").rename(tmp_path / "lists" / "b.mp4")
    absolute = folder / "c.mp4"
    file = write(tmp_path / "lists" / "x.csv", f"video,caption\na.mp4,one\nb.mp4,two\n{absolute},three\nno.mp4,four\n")
    assert [path for _, path, _ in tables(file, root=str(folder))["train"]] == [
        str(folder / "a.mp4"),
        str(tmp_path / "lists" / "b.mp4"),
        str(absolute),
        str(tmp_path / "lists" / "no.mp4"),
    ]


def test_captions_of_absent_videos_are_reported_with_the_next_step(folder: Path, tokenizer_folder: str) -> None:
    file = write(folder / "x.csv", "video,caption\na.mp4,one\nb.mp4,two\nnowhere.mp4,three\n")
    with pytest.raises(DataError, match="1 of 3 videos cannot be used") as caught:
        Custom(file, tokenizer=tokenizer_folder).setup("fit")
    assert f"{folder / 'nowhere.mp4'} (" in caught.value.problem
    assert "relative to its own folder" in str(caught.value.next_step)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "", "has no captions"),
        ("x.csv", "video,caption\n", "has no captions"),
        ("x.csv", "file,caption\na.mp4,one\n", "has no column 'video'; it has file, caption"),
        ("x.csv", "video,text\na.mp4,one\n", "has no column 'caption'; it has video, text"),
        ("x.csv", "video,caption\na.mp4,one\nb.mp4,\n", "x.csv, line 3: empty caption"),
        ("x.csv", "video,caption\na.mp4,one\nb.mp4\n", "x.csv, line 3: empty caption"),
        ("x.csv", "video,caption\n,one\n", "line 2: empty video_id"),
        ("x.csv", "video,caption\na.mp4,one, two\n", "line 2: more fields than columns"),
        ("x.csv", 'video,caption\na.mp4,"one\n', "not CSV: unexpected end of data"),
        ("x.csv", "video;caption\na.mp4;one, two\n", "has no column 'video'; it has video;caption"),
        ("x.csv", "video,caption,caption\na.mp4,one,two\n", "has two columns 'caption'"),
        ("x.csv", "video,caption,end\na.mp4,one,inf\n", "line 2: end is not a number"),
        ("x.csv", "video,caption\na\0.mp4,one\n", "line 2: a NUL character in the path"),
        ("x.jsonl", '{"video": "a.mp4", "caption": ["one", "two"]}\n', 'line 1: caption is not a text but ["one"'),
        ("x.jsonl", '{"video": "a.mp4", "caption": "one", "start": true}\n', "line 1: start is not a number"),
        ("x.jsonl", '{"video": "a.mp4", "caption": "one", "end": NaN}\n', "line 1: not JSON: NaN is no number"),
        ("x.jsonl", '{"video": "a.mp4", "caption": "one", "caption": "two"}\n', "'caption' comes twice"),
        ("x.jsonl", '{"video": "a.mp4", "caption": "\\ud800"}\n', "line 1: caption is not a text"),
        ("x.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("x.csv", "video,caption,split\na.mp4,one,dev\n", "line 2: unknown split 'dev'"),
        ("x.csv", "video,caption\na.mp4,one\nb.mp4,x\na.mp4,one\n", "line 4: the same caption again"),
        ("x.csv", 'video,caption\na.mp4,"o\nne"\nb.mp4,\n', "line 4: empty caption"),
        ("x.csv", "video,caption,start\na.mp4,one,soon\n", "line 2: start is not a number"),
        ("x.jsonl", '{"video": "a.mp4", "caption": "one"}\n{"video": \n', "x.jsonl, line 2: not JSON"),
        ("x.jsonl", '["a.mp4", "one"]\n', "x.jsonl, line 1: not a JSON object"),
        ("x.jsonl", '{"video": "a.mp4", "caption": null}\n', "x.jsonl, line 1: empty caption"),
        ("x.parquet", "", "the format is told by the ending"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Custom(write(folder / name, text)).tables()
    assert message in caught.value.problem
    assert name in caught.value.problem


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_semicolons_between_columns_are_named(name: str, folder: Path) -> None:
    with pytest.raises(DataError, match="has no column 'video'; it has video;caption") as caught:
        Custom(write(folder / name, "video;caption\na.mp4;a dog\n")).tables()
    assert "not be parted by semicolons" in str(caught.value.next_step)


def test_latin_1_and_absent_files(folder: Path) -> None:
    for encoding in ("latin-1", "utf-16"):
        with pytest.raises(DataError, match="is not UTF-8 text") as caught:
            Custom(write(folder / "x.csv", "video,caption\na.mp4,für\n", encoding)).tables()
        assert "UTF-8" in str(caught.value.next_step)
    (folder / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv cannot be read: Is a directory"):
        Custom(str(folder / "folder.csv")).tables()
    with pytest.raises(DataError, match=r"nothing\.csv does not exist"):
        Custom(str(folder / "nothing.csv")).tables()


def test_a_video_in_two_splits(folder: Path) -> None:
    file = write(folder / "x.csv", "video,caption,split\na.mp4,one,train\nb.mp4,two,train\na.mp4,three,test\n")
    with pytest.raises(DataError, match=r"1 video is in both train and test: a.mp4"):
        Custom(file).setup("fit")


@pytest.mark.parametrize("select_on_test", [False, True])
def test_a_video_in_validation_and_test(folder: Path, select_on_test: bool) -> None:
    file = write(
        folder / "x.csv", "video,caption,split\na.mp4,one,train\nb.mp4,two,val\nb.mp4,three,test\nc.mp4,four,test\n"
    )
    data = Custom(file, select_on_test=select_on_test)
    if select_on_test:  # the validation split is not used
        data.check("fit")
        return
    with pytest.raises(DataError, match=r"1 video is in both val and test: b.mp4"):
        data.check("fit")


def test_unknown_default_split(folder: Path) -> None:
    with pytest.raises(ConfigError, match="split='dev'"):
        Custom(str(folder / "x.csv"), split="dev")  # type: ignore[arg-type]
