from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.data import ActivityNet
from centerclip_pl.errors import DataError

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations" / "activitynet"


@pytest.fixture
def root(tmp_path: Path, write_miniature: Callable[..., dict[str, str]]) -> Path:
    write_miniature("activitynet", tmp_path / "activitynet")
    return tmp_path / "activitynet"


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_sentences_become_one_paragraph(root: Path) -> None:
    change(root / "val_1.json", v_12abcdefghi={"sentences": ["  One.", "", " Two. \n", "\tThree."]})
    test = ActivityNet(str(root)).tables()["test"]
    assert test["caption"].tolist()[:2] == [
        "One. Two. Three.",
        "Step 0 of number 13. Step 1 of number 13. Step 2 of number 13.",
    ]
    assert test["video_id"].tolist() == [f"v_{k}abcdefghi" for k in range(12, 16)]


def test_ids_without_captions_are_in_no_split(root: Path) -> None:
    assert len(json.loads((root / "val_ids.json").read_text())) == 5
    tables = ActivityNet(str(root)).tables()
    assert [table["video_id"].str.contains("silent").sum() for table in tables.values()] == [0, 0]


def test_captions_of_other_ids_are_not_used(root: Path) -> None:
    change(root / "val_1.json", v_other={"sentences": ["No."]})
    assert "v_other" not in set(ActivityNet(str(root)).tables()["test"]["video_id"])


@pytest.mark.parametrize("name", ["v_12abcdefghi.webm", "12abcdefghi.MP4", "sub/folder/v_12abcdefghi.mkv"])
def test_files_with_and_without_v(root: Path, name: str) -> None:
    before = Path(ActivityNet(str(root)).tables()["test"]["path"].iloc[0])
    after = root / "videos" / name
    after.parent.mkdir(parents=True, exist_ok=True)
    before.rename(after)
    assert ActivityNet(str(root)).tables()["test"]["path"].iloc[0] == str(after)


def test_file_names_may_be_given(root: Path) -> None:
    before = Path(ActivityNet(str(root)).tables()["test"]["path"].iloc[0])
    before.rename(root / "videos" / "clip 7.avi")
    change(root / "video_path.json", **{"12abcdefghi": "some/where/clip 7.avi"})
    assert ActivityNet(str(root)).tables()["test"]["path"].iloc[0] == str(root / "videos" / "clip 7.avi")
    (root / "videos" / "clip 7.avi").rename(root / "videos" / "clip 7.mp4")
    assert ActivityNet(str(root)).tables()["test"]["path"].iloc[0] == str(root / "videos" / "clip 7.mp4")


@pytest.mark.parametrize("listed", [True, False])
def test_missing_videos_are_expected_by_their_published_name(root: Path, listed: bool) -> None:
    Path(ActivityNet(str(root)).tables()["test"]["path"].iloc[0]).unlink()
    if not listed:
        (root / "video_path.json").unlink()
    expected = "12abcdefghi.avi" if listed else "v_12abcdefghi.mp4"
    assert ActivityNet(str(root)).tables()["test"]["path"].iloc[0] == str(root / "videos" / expected)


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("train_ids.json", {"v_a": 1}, "not a list of names"),
        ("train_ids.json", [], "not a list of names"),
        ("train_ids.json", ["v_a", 3], "not a list of names"),
        ("val_ids.json", ["v_12abcdefghi", "v_13abcdefghi", "v_12abcdefghi"], "v_12abcdefghi comes twice"),
        ("val_ids.json", ["v_12abcdefghi", "v_x", "v_y"], "2 of 3 videos have no caption in val_1.json, e.g. v_x, v_y"),
        ("val_1.json", [{"sentences": ["a"]}], "not a value for each id"),
        ("val_1.json", {"v_12abcdefghi": ["a"]}, "no list of sentences for v_12abcdefghi"),
        ("val_1.json", {"v_12abcdefghi": {"sentences": "abc"}}, "no list of sentences for v_12abcdefghi"),
        ("val_1.json", {"v_12abcdefghi": {"sentences": ["a", 4]}}, "is not the JSON file of captions"),
        ("video_path.json", {"a": 4}, "not a file name for each id"),
    ],
)
def test_other_shapes_are_refused(root: Path, file: str, value: Any, message: str) -> None:
    (root / file).write_text(json.dumps(value))
    with pytest.raises(DataError) as caught:
        ActivityNet(str(root)).tables()
    assert message in caught.value.problem
    assert str(root / file) in caught.value.problem
    assert "captions.zip" in str(caught.value.next_step)


def test_a_paragraph_without_words(root: Path) -> None:
    change(root / "val_1.json", v_12abcdefghi={"sentences": [" ", ""]})
    with pytest.raises(DataError, match=r"val_1\.json: no words for v_12abcdefghi \(1 in all\)"):
        ActivityNet(str(root)).tables()


def test_an_id_that_comes_twice_among_the_captions(root: Path) -> None:
    file = root / "train.json"
    file.write_text(file.read_text()[:-1] + ', "v_03abcdefghi": {"sentences": ["Again."]}}')
    with pytest.raises(DataError, match="'v_03abcdefghi' comes twice"):
        ActivityNet(str(root)).tables()


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"the published annotations are not at {ANNOTATIONS}")
def test_real_annotations(tmp_path: Path) -> None:
    for file in ANNOTATIONS.iterdir():
        shutil.copy(file, tmp_path / file.name)
    ids = json.loads((ANNOTATIONS / "train_ids.json").read_text())
    sentences = {name: {"sentences": [f" First of {name}.", " Then."]} for name in ids[15:]}
    (tmp_path / "train.json").write_text(json.dumps(sentences))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "uqiMw7tQ1Cc.mkv").touch()
    tables = ActivityNet(str(tmp_path)).tables()
    test = tables["test"].set_index("video_id")
    assert len(test) == 4917
    assert len(json.loads((ANNOTATIONS / "val_ids.json").read_text())) == 4926
    assert set(test.index) == set(json.loads((ANNOTATIONS / "val_1.json").read_text()))
    assert test.loc["v_uqiMw7tQ1Cc", "caption"] == (
        "A weight lifting tutorial is given. The coach helps the guy in red with the proper body placement and lifting "
        "technique."
    )
    assert test.loc["v_uqiMw7tQ1Cc", "path"] == str(tmp_path / "videos" / "uqiMw7tQ1Cc.mkv")
    assert test.loc["v_bXdq2zI1Ms0", "path"] == str(tmp_path / "videos" / "bXdq2zI1Ms0.avi")
    assert len(tables["train"]) == 10009
    assert set(tables["train"]["video_id"]).isdisjoint(test.index)
