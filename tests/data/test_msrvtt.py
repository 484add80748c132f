from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from centerclip_pl.data import MSRVTT
from centerclip_pl.errors import ConfigError, DataError

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations" / "msrvtt"


def write_annotations(folder: Path, train: list[str], test: list[str], captions: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("9k", "7k"):
        ids = train if name == "9k" else train[: len(train) // 2]
        (folder / f"MSRVTT_train.{name}.csv").write_text("\n".join(["video_id", *ids]) + "\n")
    rows = [f"ret{k},msr{k},{video_id},what is in {video_id}" for k, video_id in enumerate(test)]
    (folder / "MSRVTT_JSFUSION_test.csv").write_text("\n".join(["key,vid_key,video_id,sentence", *rows]) + "\n")
    sentences = [
        {"caption": f"caption {c // 2} of {video_id}", "video_id": video_id, "sen_id": c}  # each twice
        for c in range(captions)
        for video_id in [*train, *test]
    ]
    videos = [{"video_id": video_id, "url": "", "split": "train"} for video_id in [*train, *test]]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))


@pytest.fixture
def root(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    root = tmp_path / "msrvtt"
    write_annotations(root, [f"video{k}" for k in range(8)], ["video8", "video9"], captions=4)
    (root / "videos").mkdir()
    made = make_video(root / "videos" / "video0.mp4", 3)
    for k in range(1, 10):
        shutil.copy(made, root / "videos" / f"video{k}.mp4")
    return root


def test_published_files(root: Path, tokenizer_folder: str) -> None:
    data = MSRVTT(str(root), tokenizer=tokenizer_folder, val_videos=2, num_workers=0)
    data.check("fit")
    assert data.counts() == {
        "train": {"videos": 6, "texts": 24, "missing": 0, "broken": 0},
        "val": {"videos": 2, "texts": 8, "missing": 0, "broken": 0},
        "test": {"videos": 2, "texts": 2, "missing": 0, "broken": 0},
    }
    assert data.captions("test")["caption"].tolist() == ["what is in video8", "what is in video9"]
    train = data.captions("train")
    assert set(train.loc[train["video_id"] == data.videos("train")[0], "caption"]) == {
        f"caption {c} of {data.videos('train')[0]}" for c in range(2)
    }
    assert train["path"].iloc[0] == str(root / "videos" / f"{train['video_id'].iloc[0]}.mp4")
    assert (data.protocol("test"), data.protocol("val")) == ("msrvtt-1ka", "msrvtt-9k-held-out")
    assert MSRVTT(str(root), select_on_test=True).protocol("val") == "msrvtt-1ka"
    assert set(MSRVTT(str(root), training="7k").tables()["train"]["video_id"]) == {f"video{k}" for k in range(4)}


@pytest.mark.parametrize("annotations", ["annotations", "msrvtt_data"])
@pytest.mark.parametrize("videos", ["videos/all", "MSRVTT/videos/all", "."])
def test_as_the_archives_unpack(root: Path, annotations: str, videos: str) -> None:
    (root / annotations).mkdir()
    for file in root.glob("MSRVTT_*"):
        file.rename(root / annotations / file.name)
    (root / "videos").rename(root / "moved")
    (root / videos).mkdir(parents=True, exist_ok=True)
    for file in (root / "moved").iterdir():
        file.rename(root / videos / file.name)
    (root / "moved").rmdir()
    assert Path(MSRVTT(str(root)).tables()["test"]["path"].iloc[0]) == root / videos / "video8.mp4"


@pytest.mark.parametrize("absent", ["MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv", "MSRVTT_data.json", "videos"])
def test_what_is_absent_is_named_with_its_source(root: Path, absent: str) -> None:
    (root / absent).rename(root.parent / "away")
    with pytest.raises(DataError) as caught:
        MSRVTT(str(root), val_videos=2).setup("fit")
    assert str(root / absent) in caught.value.problem
    for part in (str(root), "msrvtt_data.zip", "MSRVTT.zip", "MSRVTT_data.json", "--data.root=FOLDER"):
        assert part in str(caught.value.next_step)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("MSRVTT_train.9k.csv", "id\nvideo0\n", "has no column video_id; it has id"),
        ("MSRVTT_train.9k.csv", "", "is empty"),
        ("MSRVTT_train.9k.csv", "video_id\nvideo0\nvideo1,x\n", "line 3: more fields than columns"),
        ("MSRVTT_train.9k.csv", 'video_id\n"video0\n', "not CSV"),
        ("MSRVTT_train.9k.csv", "video_id\nvideo0\nvideo1\nvideo0\n", "lines 2 and 4: video0 comes twice"),
        ("MSRVTT_JSFUSION_test.csv", "video_id,sentence\nvideo8,a\nvideo8,b\n", "lines 2 and 3: video8 comes twice"),
        (
            "MSRVTT_train.9k.csv",
            "video_id\nvideo0\nvideo77\n",
            "1 of 2 videos have no caption in MSRVTT_data.json, e.g. video77",
        ),
        ("MSRVTT_JSFUSION_test.csv", "video_id,sentence\nvideo8,\n", "line 2: empty caption"),
        ("MSRVTT_data.json", "{", "is not the JSON file"),
        ("MSRVTT_data.json", "[]", "is not the JSON file"),
        ("MSRVTT_data.json", '{"sentences": [{"video_id": 7, "caption": "a"}]}', "sentence 1 has no texts"),
        ("MSRVTT_data.json", '{"sentences": [], "sentences": []}', "'sentences' comes twice"),
    ],
)
def test_damaged_annotations_are_named(root: Path, file: str, text: str, message: str) -> None:
    (root / file).write_text(text)
    with pytest.raises(DataError) as caught:
        MSRVTT(str(root)).tables()
    assert message in caught.value.problem
    assert str(root / file) in caught.value.problem


@pytest.mark.parametrize("file", ["MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv", "MSRVTT_data.json"])
def test_unreadable_annotations_are_named(root: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = io.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:
        if Path(path).name == file:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied") as caught:
        MSRVTT(str(root)).tables()
    assert str(root / file) in caught.value.problem
    assert "permissions" in str(caught.value.next_step)


def test_unknown_training_split() -> None:
    with pytest.raises(ConfigError, match="training='8k'"):
        MSRVTT(training="8k")  # type: ignore[arg-type]


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"the published annotations are not at {ANNOTATIONS}")
@pytest.mark.parametrize(("training", "videos"), [("9k", 9000), ("7k", 7010)])
def test_real_annotations(tmp_path: Path, training: Any, videos: int) -> None:
    for file in ANNOTATIONS.iterdir():
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "video0.mp4").touch()
    ids = pd.read_csv(ANNOTATIONS / f"MSRVTT_train.{training}.csv")["video_id"].tolist()
    sentences = [{"video_id": video_id, "caption": f"caption {c}"} for video_id in ids for c in range(20)]
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps({"videos": [], "sentences": sentences}))
    tables = MSRVTT(str(tmp_path), training=training).tables()
    assert tables["train"]["video_id"].nunique() == videos
    assert len(tables["train"]) == 20 * videos
    test = tables["test"]
    assert len(test) == test["video_id"].nunique() == 1000
    assert set(test["video_id"]).isdisjoint(tables["train"]["video_id"])
    assert test["caption"].iloc[0] == "a person is connecting something to system"
    assert test["path"].iloc[0] == str(tmp_path / "videos" / "video9770.mp4")
