"""Caption files and sweep files: any rows, any damage."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import FILES, FUNCTIONS, JSON_VALUES, Damage, attempt, damages, tried
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.data.captions import COLUMNS, caption_table
from centerclip_pl.data.custom import Custom
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.sweeps.sweep_file import read_sweep

CELLS = st.text(max_size=6) | st.sampled_from(["a", "b.mp4", "train", "test", "1", "2.5", "-1", "nan", "inf", "1e999"])
NAMES = ["video", "caption", "start", "end", "split", "video_id", "tag"]
LINES = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, CELLS | JSON_VALUES)), min_size=1, max_size=4)


def assert_sound(tables: dict[str, Any]) -> None:
    for table in tables.values():
        assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
        assert (table[["video_id", "path", "caption"]].map(str.strip) != "").all(axis=None)
        assert not (table["end"] <= table["start"].fillna(0.0)).any()
        assert table.groupby("video_id")["path"].nunique().max() == 1


def read(file: Path) -> Any:
    return Custom(captions=str(file), num_workers=0, test_videos=0).tables()


@FILES
@given(rows=LINES, sure=st.booleans())
def test_any_lines_of_json(place: Path, rows: list[dict[str, Any]], sure: bool) -> None:
    if sure:
        rows = [{"video": f"{k}.mp4", "caption": "a dog", **row} for k, row in enumerate(rows)]
    file = place / "captions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables, error = attempt(lambda: read(file))
    tried("good" if error is None else "bad")
    if error is None:
        assert_sound(tables)
        assert sum(map(len, tables.values())) == len(rows)
    else:
        assert isinstance(error, DataError)
        assert str(file) in error.problem


@FILES
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=7), min_size=1, max_size=4), names=st.permutations(NAMES))
def test_any_rows_of_csv(place: Path, rows: list[list[str]], names: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([names, *rows])
    file = place / "captions.csv"
    file.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    tables, error = attempt(lambda: read(file))
    tried("good" if error is None else "bad")
    if error is None:
        assert_sound(tables)
    else:
        assert isinstance(error, DataError)
        assert str(file) in error.problem


GOOD = {
    ".csv": b'video,caption,split,start,end\na.mp4,"a ""big"" dog, running",train,0,2.5\nb.mp4,a cat,test,,\n',
    ".tsv": b"video\tcaption\na.mp4\ta dog\nb.mp4\ta cat\n",
    ".jsonl": b'{"video": "a.mp4", "caption": "a dog", "start": 0, "end": 2.5}\n{"video": "b", "caption": "a cat"}\n',
}


@pytest.mark.parametrize("suffix", GOOD)
@FILES
@given(damage=damages())
def test_damaged_caption_files(suffix: str, place: Path, damage: Damage) -> None:
    file = place / f"damaged{suffix}"
    file.write_bytes(damage(GOOD[suffix]))
    tried("bad")
    tables, error = attempt(lambda: read(file))
    if error is None:
        assert_sound(tables)
    else:
        assert str(file) in error.problem


@FUNCTIONS
@given(rows=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(COLUMNS, JSON_VALUES)), max_size=4))
def test_any_rows_are_a_table_or_refused(rows: list[dict[str, Any]]) -> None:
    table, error = attempt(lambda: caption_table(rows, "rows.json"))
    tried("good" if error is None else "bad")
    if error is None:
        assert_sound({"all": table})
    else:
        assert isinstance(error, DataError)
        assert "rows.json" in error.problem


SWEEP: dict[str, Any] = {
    "program": "centerclip_pl",
    "command": ["${env}", "${interpreter}", "-m", "centerclip_pl", "train", "${args}"],
    "method": "random",
    "metric": {"name": "val/t2v/R@1", "goal": "maximize"},
    "early_terminate": {"type": "hyperband", "min_iter": 1},
    "parameters": {"dataset": {"value": "demo"}, "tokens.segments": {"values": [2, 4]}, "x": {"min": 0.0, "max": 1.0}},
}


@FILES
@given(damage=damages())
def test_damaged_sweep_files(place: Path, damage: Damage) -> None:
    file = place / "sweep.yaml"
    file.write_bytes(damage(yaml.safe_dump(SWEEP).encode()))
    tried("bad")
    sweep, error = attempt(lambda: read_sweep(file))
    if error is None:
        assert sweep.words(dict.fromkeys(sweep.config["parameters"], 1))[0] in ("train", "fit")
    else:
        assert isinstance(error, ConfigError)
        assert str(file) in error.problem


@FILES
@given(path=st.lists(st.integers(0, 9), min_size=1, max_size=3), value=JSON_VALUES)
def test_sweep_files_with_another_value(place: Path, path: list[int], value: Any) -> None:
    content = yaml.safe_load(yaml.safe_dump(SWEEP))
    at: Any = content
    for step in path[:-1]:
        inside = [key for key in at if isinstance(at[key], dict) and at[key]]
        if not inside:
            break
        at = at[inside[step % len(inside)]]
    at[list(at)[path[-1] % len(at)]] = value
    file = place / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    tried("bad")
    sweep, error = attempt(lambda: read_sweep(file))
    if error is None:
        assert sweep.words(dict.fromkeys(sweep.config["parameters"], 1))[0] in ("train", "fit")
        assert isinstance(sweep.identity(), str)
        assert isinstance(sweep.maximizes, bool)
        assert sweep.varied is not None
    else:
        assert isinstance(error, ConfigError)
        assert str(file) in error.problem
