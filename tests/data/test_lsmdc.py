from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip_pl.data import LSMDC
from centerclip_pl.data.lsmdc import film_of
from centerclip_pl.errors import DataError

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations" / "lsmdc"
TRAIN, VAL, TEST = "LSMDC16_annos_training.csv", "LSMDC16_annos_val.csv", "LSMDC16_challenge_1000_publictect.csv"


@pytest.fixture
def root(tmp_path: Path, write_miniature: Callable[..., dict[str, str]]) -> Path:
    write_miniature("lsmdc", tmp_path / "lsmdc")
    return tmp_path / "lsmdc"


@pytest.mark.parametrize(
    ("clip", "film"),
    [
        ("0001_American_Beauty_00.00.51.926-00.00.54.129", "0001_American_Beauty"),
        ("3064_SPARKLE_2012_01.10.49.683-01.10.52.477", "3064_SPARKLE_2012"),
        ("1012_Unbreakable_00.05.16.065-00.05.21.941", "1012_Unbreakable"),
        ("no_span", "no_span"),
    ],
)
def test_the_film_of_a_clip(clip: str, film: str) -> None:
    assert film_of(clip) == film


def test_clips_are_found_in_the_folders_of_films(root: Path) -> None:
    tables = LSMDC(str(root)).tables()
    for table in tables.values():
        for clip, path in zip(table["video_id"], table["path"], strict=True):
            assert Path(path).parent == root / "videos" / film_of(clip)
            assert Path(path).name in (f"{clip}.avi", f"{clip}.mp4")
    several = tables["train"].groupby("video_id", sort=False).size()
    assert several.tolist() == [2, 1, 1, 1] * 3
    assert tables["train"]["caption"].iloc[1] == "SOMEONE looks at number 0, then at 1."


def test_a_missing_clip_is_expected_in_its_films_folder(root: Path) -> None:
    path = Path(LSMDC(str(root)).tables()["test"]["path"].iloc[0])
    path.unlink()
    assert LSMDC(str(root)).tables()["test"]["path"].iloc[0] == str(path.with_suffix(".avi"))


def test_quotes_and_commas_are_words(root: Path) -> None:
    lines = (root / TEST).read_text().splitlines()
    fields = lines[0].split("\t")
    for sentence in ('"Go, he says', 'He reads "Go".', " a, b; c  "):
        (root / TEST).write_text("\n".join(["\t".join([*fields[:5], sentence]), *lines[1:]]))
        assert LSMDC(str(root)).tables()["test"]["caption"].iloc[0] == sentence.strip()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a_00.00.51.926-00.00.54.129,1,2,1,2,words", "line 2: 1 fields between tabs, not 6"),
        ("a\t1\t2\t1\twords", "line 2: 5 fields between tabs, not 6"),
        ("a\t1\t2\t1\t2\twords\tmore", "line 2: 7 fields between tabs, not 6"),
        ("a\t1\t2\t1\t2\t ", "line 2: empty caption"),
        ("\t1\t2\t1\t2\twords", "line 2: empty video_id"),
    ],
)
@pytest.mark.parametrize("file", [TRAIN, VAL, TEST])
def test_other_columns_are_refused_by_line(root: Path, file: str, line: str, message: str) -> None:
    first, *rest = (root / file).read_text().splitlines()
    (root / file).write_text("\n".join([first, line, *rest]))
    with pytest.raises(DataError) as caught:
        LSMDC(str(root)).tables()
    assert message in caught.value.problem
    assert str(root / file) in caught.value.problem


def test_a_test_clip_has_one_sentence(root: Path) -> None:
    first, *rest = (root / TEST).read_text().splitlines()
    (root / TEST).write_text("\n".join([first, *rest, first.replace("looks", "walks")]))
    with pytest.raises(DataError, match=r"lines 1 and 5: 1003_Some_Film_3_00\.01\S+ comes twice"):
        LSMDC(str(root)).tables()


def test_where_it_is_from(root: Path) -> None:
    assert "MPII" in LSMDC(str(root)).next_step
    assert "data download" not in LSMDC(str(root)).next_step  # there is no direct link


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"the published annotations are not at {ANNOTATIONS}")
def test_real_annotations(tmp_path: Path) -> None:
    shutil.copy(ANNOTATIONS / TEST, tmp_path)
    for file in (TRAIN, VAL):
        span = "00.00.51.926-00.00.54.129"
        film = f"0001_Film_{'T' if file == TRAIN else 'V'}"
        (tmp_path / file).write_text("\t".join([f"{film}_{span}", *span.split("-") * 2, "SOMEONE waits."]))
    clips = [line.split("\t")[0] for line in (ANNOTATIONS / TEST).read_text().splitlines()]
    for clip in clips[:500]:
        (tmp_path / "videos" / film_of(clip)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / film_of(clip) / f"{clip}.avi").touch()
    test = LSMDC(str(tmp_path)).tables()["test"]
    assert len(test) == test["video_id"].nunique() == 1000
    assert test["video_id"].tolist() == clips
    assert test["caption"].iloc[0] == "SOMEONE stands below, hands on her hips."
    assert test["path"].tolist() == [str(tmp_path / "videos" / film_of(clip) / f"{clip}.avi") for clip in clips]
    assert {film_of(clip) for clip in clips} >= {"3086_UGLY_TRUTH", "1054_Harry_Potter_and_the_prisoner_of_azkaban"}
    assert len({film_of(clip) for clip in clips}) < 30
