from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.data import DiDeMo
from centerclip_pl.errors import DataError

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations" / "didemo"


@pytest.fixture
def root(tmp_path: Path, write_miniature: Callable[..., dict[str, str]]) -> Path:
    write_miniature("didemo", tmp_path / "didemo")
    return tmp_path / "didemo"


def test_descriptions_are_joined_in_the_order_of_the_file(root: Path) -> None:
    test = DiDeMo(str(root)).tables()["test"]
    assert test["caption"].tolist() == [
        "moment 0 of 16 moment 1 of 16",
        "moment 0 of 17 moment 1 of 17 moment 2 of 17",
        "moment 0 of 18 moment 1 of 18",
        "moment 0 of 19 moment 1 of 19 moment 2 of 19",
    ]
    descriptions = json.loads((root / "test_data.json").read_text())
    (root / "test_data.json").write_text(json.dumps(descriptions[::-1]))
    assert DiDeMo(str(root)).tables()["test"]["caption"].iloc[0] == "moment 1 of 16 moment 0 of 16"


def test_described_videos_that_are_in_no_list_are_not_used(root: Path) -> None:
    assert "unlisted.mov" in (root / "test_data.json").read_text()
    assert "unlisted.mov" not in set(DiDeMo(str(root)).tables()["test"]["video_id"])


@pytest.mark.parametrize(
    "file",
    ["16@N01_16_abc.mov", "16@N01_16_abc.mov.mp4", "16@N01_16_abc.mp4", "16@N01_16_abc.webm", "deep/16@N01_16_abc.MOV"],
)
def test_files_by_any_of_their_names(root: Path, file: str) -> None:
    before = Path(DiDeMo(str(root)).tables()["test"]["path"].iloc[0])
    after = root / "videos" / file
    after.parent.mkdir(exist_ok=True)
    before.rename(after)
    assert DiDeMo(str(root)).tables()["test"]["path"].iloc[0] == str(after)


@pytest.mark.parametrize("name", ["16@N01_16_abc.mov", "16@N01_16_abc.mov.mp4", "16@N01_16_abc.mp4", "16@N01_16_abc"])
def test_lists_may_use_any_of_the_names(root: Path, name: str) -> None:
    (root / "test_list.txt").write_text(f"  {name} \n")
    assert DiDeMo(str(root)).tables()["test"]["video_id"].tolist() == ["16@N01_16_abc.mov"]


def test_a_name_whose_ending_alone_tells_it_apart(root: Path) -> None:
    descriptions = [{"video": f"a{ending}", "description": ending} for ending in (".mov", ".avi", ".mp4")]
    (root / "test_data.json").write_text(json.dumps(descriptions))
    (root / "test_list.txt").write_text("a.mp4\na.mov\na.avi.mp4\n")
    assert DiDeMo(str(root)).tables()["test"]["caption"].tolist() == [".mp4", ".mov", ".avi"]
    (root / "test_list.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"1 of 1 videos have no caption in test_data\.json, e\.g\. a"):
        DiDeMo(str(root)).tables()


def test_missing_videos_are_expected_by_their_published_name(root: Path) -> None:
    Path(DiDeMo(str(root)).tables()["test"]["path"].iloc[0]).unlink()
    assert DiDeMo(str(root)).tables()["test"]["path"].iloc[0] == str(root / "videos" / "16@N01_16_abc.mov")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "val_list.txt",
            "12@N01_12_abc.mov\nsilent.mov\nother.avi\n",
            "2 of 3 videos have no caption in",
        ),
        ("val_list.txt", "12@N01_12_abc.mov\n12@N01_12_abc.mov\n", "lines 1 and 2: 12@N01_12_abc.mov comes twice"),
        ("val_list.txt", "12@N01_12_abc.mov\n12@N01_12_abc.mov.mp4\n", "are the same video"),
    ],
)
def test_lists_that_do_not_fit_are_named(root: Path, file: str, text: str, message: str) -> None:
    (root / file).write_text(text)
    with pytest.raises(DataError) as caught:
        DiDeMo(str(root)).tables()
    assert message in caught.value.problem
    assert str(root / file) in caught.value.problem


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"video": "a", "description": "b"}, "not a list of descriptions"),
        ([], "not a list of descriptions"),
        (["a"], "description 1 is not an object"),
        ([{"video": "a.mov", "description": "b"}, {"video": "a.mov"}], "KeyError: 'description'"),
        ([{"video": "a.mov", "description": 3}], "description 1 has no texts"),
        ([{"video": " ", "description": "b"}], "description 1 has no texts"),
    ],
)
def test_other_shapes_are_refused(root: Path, value: Any, message: str) -> None:
    (root / "val_data.json").write_text(json.dumps(value))
    with pytest.raises(DataError) as caught:
        DiDeMo(str(root)).tables()
    assert message in caught.value.problem
    assert str(root / "val_data.json") in caught.value.problem


def test_a_video_with_blank_descriptions_has_no_caption(root: Path) -> None:
    (root / "val_data.json").write_text(json.dumps([{"video": "a.mov", "description": " \n"}]))
    (root / "val_list.txt").write_text("a.mov\n")
    with pytest.raises(DataError, match=r"1 of 1 videos have no caption in val_data\.json, e\.g\. a\.mov"):
        DiDeMo(str(root)).tables()


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"the published annotations are not at {ANNOTATIONS}")
@pytest.mark.parametrize("extra", ["", ".mp4"])
def test_real_annotations(root: Path, extra: str) -> None:
    shutil.copy(ANNOTATIONS / "val_data.json", root / "val_data.json")
    descriptions = json.loads((ANNOTATIONS / "val_data.json").read_text())
    names = list(dict.fromkeys(about["video"] for about in descriptions))
    assert (len(descriptions), len(names)) == (4180, 1094)
    (root / "val_list.txt").write_text("\n".join(name + extra for name in names))
    for name in names:
        (root / "videos" / (name + extra)).touch()
    val = DiDeMo(str(root)).tables()["val"]
    assert val["video_id"].tolist() == names
    assert val["path"].tolist() == [str(root / "videos" / (name + extra)) for name in names]
    words = sum(len(about["description"].split()) for about in descriptions)
    assert val["caption"].str.split().map(len).sum() == words
    first = [about["description"].strip() for about in descriptions if about["video"] == names[0]]
    assert val["caption"].iloc[0] == " ".join(first)
