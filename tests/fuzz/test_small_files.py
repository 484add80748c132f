"""The files that runs and datasets leave behind, damaged: each is refused by name, or read as something sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fuzzing import FILES, JSON_VALUES, Damage, attempt, damages, tried
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.data.file_manifest import COLUMNS, read_manifest, write_manifest
from centerclip_pl.data.frame_cache.images import pack
from centerclip_pl.data.frame_cache.layout import MANIFEST, CacheSettings, Clip
from centerclip_pl.data.frame_cache.reading import FrameCache
from centerclip_pl.data.frame_cache.shards import ShardWriter
from centerclip_pl.runs import read_runs
from centerclip_pl.runs.local import read_config
from centerclip_pl.training.ranks_file import read_ranks
from centerclip_pl.training.results import read_results


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "a", queries=20)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What ``data verify --manifest`` writes, in both forms."""
    numbers = np.arange(4)
    table = pd.DataFrame(
        {
            "path": [f"videos/{k}.mp4" for k in numbers],
            "size": 1000 + numbers,
            "num_frames": 10 * numbers,
            "fps": 25.0,
            "duration": 0.4 * numbers,
            "width": 64,
            "height": 48,
            "sha256": [f"{k:064x}" for k in numbers],
            "problem": [None, "no video stream", None, None],
        }
    )
    folder, contents = tmp_path_factory.mktemp("manifest"), {}
    for suffix in (".csv", ".parquet"):
        write_manifest(table, folder / f"m{suffix}")
        contents[suffix] = (folder / f"m{suffix}").read_bytes()
    return contents


def assert_whole_manifest(table: pd.DataFrame) -> None:
    assert set(COLUMNS) - {"problem"} <= set(table.columns)
    assert table["path"].is_unique
    assert table[["size", "num_frames", "width", "height"]].dtypes.eq("int64").all()
    assert np.isfinite(table[["fps", "duration"]].to_numpy()).all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@FILES
@given(damage=damages())
def test_damaged_manifests(suffix: str, manifest: dict[str, bytes], place: Path, damage: Damage) -> None:
    file = place / f"manifest{suffix}"
    file.write_bytes(damage(manifest[suffix]))
    tried("bad")
    table, error = attempt(lambda: read_manifest(file))
    if error is None:
        assert_whole_manifest(table)
    else:
        assert str(file) in error.problem


CELLS = st.sampled_from(["", "inf", "-inf", "nan", "1e400", "9" * 30, "-1", "1.5", "x", '"', "\0", "0x10", "é", " 7 "])


@FILES
@given(row=st.integers(1, 4), column=st.integers(0, len(COLUMNS) - 1), cell=CELLS)
def test_manifests_with_another_cell(manifest: dict[str, bytes], place: Path, row: int, column: int, cell: str) -> None:
    lines = [line.split(",") for line in manifest[".csv"].decode().splitlines()]
    lines[row][column] = cell
    file = place / "manifest.csv"
    file.write_text("\n".join(map(",".join, lines)) + "\n")
    tried("bad")
    table, error = attempt(lambda: read_manifest(file))
    if error is None:
        assert_whole_manifest(table)
    else:
        assert str(file) in error.problem


@FILES
@given(damage=damages())
def test_damaged_ranks(run: Path, place: Path, damage: Damage) -> None:
    file = place / "ranks.parquet"
    file.write_bytes(damage((run / "ranks.parquet").read_bytes()))
    tried("bad")
    ranks, error = attempt(lambda: read_ranks(file))
    if error is None:
        assert set(ranks["direction"]) <= {"t2v", "v2t"}
        assert (ranks["rank"] >= 1).all()
    else:
        assert str(file) in error.problem


COLUMN_VALUES: dict[str, Any] = {
    "direction": ["t2v", "v2t", "", "x", None, 3],
    "video_id": ["a", "", None, 7],
    "caption": ["a", None, 7, b"x"],
    "rank": [1.0, 0.0, -1.0, float("nan"), float("inf"), "1", None, 2**70],
}


@FILES
@given(data=st.data())
def test_tables_of_ranks_that_others_wrote(place: Path, data: Any) -> None:
    rows = data.draw(st.integers(0, 4))
    columns = {
        name: data.draw(st.lists(st.sampled_from(values), min_size=rows, max_size=rows))
        for name, values in COLUMN_VALUES.items()
        if data.draw(st.integers(0, 9))
    }
    file = place / "ranks.parquet"
    try:
        pd.DataFrame(columns).to_parquet(file)
    except (ValueError, TypeError, OverflowError):  # pyarrow cannot hold such a mixture
        return
    tried("bad")
    ranks, error = attempt(lambda: read_ranks(file))
    if error is None:
        assert set(ranks["direction"]) <= {"t2v", "v2t"}
        assert (ranks["rank"] >= 1).all()
        assert np.isfinite(ranks["rank"]).all()


def read_all(folder: Path) -> Any:
    return read_runs([folder])


@pytest.mark.parametrize(("name", "read"), [("results.json", read_results), ("config.yaml", read_config)])
@FILES
@given(damage=damages())
def test_damaged_runs(name: str, read: Any, run: Path, place: Path, damage: Damage) -> None:
    folder = place / "run"
    folder.mkdir(exist_ok=True)
    for part in ("results.json", "config.yaml"):
        (folder / part).write_bytes((run / part).read_bytes())
    (folder / name).write_bytes(damage((run / name).read_bytes()))
    tried("bad")
    _, error = attempt(lambda: read(folder / name))
    table, all_error = attempt(lambda: read_all(folder))
    if error is not None:
        assert str(folder / name) in error.problem
        assert all_error is not None
    if all_error is None:
        assert len(table) == 1
    else:
        assert str(folder) in str(all_error)


def edit(content: Any, path: list[int], value: Any) -> None:
    """Puts a value in another's place, the steps leading down through tables."""
    for step in path[:-1]:
        inside = [key for key in content if isinstance(content[key], dict) and content[key]]
        if not inside:
            break
        content = content[inside[step % len(inside)]]
    content[list(content)[path[-1] % len(content)]] = value


@pytest.mark.parametrize("name", ["results.json", "config.yaml"])
@FILES
@given(path=st.lists(st.integers(0, 30), min_size=1, max_size=4), value=JSON_VALUES)
def test_runs_with_another_value(name: str, run: Path, place: Path, path: list[int], value: Any) -> None:
    folder = place / "edited"
    folder.mkdir(exist_ok=True)
    contents = {
        "results.json": json.loads((run / "results.json").read_text()),
        "config.yaml": yaml.safe_load((run / "config.yaml").read_text()),
    }
    edit(contents[name], path, value)
    (folder / "results.json").write_text(json.dumps(contents["results.json"]))
    (folder / "config.yaml").write_text(yaml.safe_dump(contents["config.yaml"]))
    tried("bad")
    table, error = attempt(lambda: read_all(folder))
    if error is None:
        assert len(table) == 1
    else:
        assert str(folder) in str(error)


HOSTILE_TEXTS: dict[str, str] = {
    "lists in lists": "[" * 100_000,
    "lists in lists, in lines": "- " * 50_000 + "a",
    "objects in objects": '{"a":' * 100_000,
    "a number of many digits": '{"schema_version": ' + "9" * 5000 + "}",
    "half a character": '{"schema_version": "\\ud800"}',
    "another number": '{"schema_version": 1e999}',
    "a key twice": '{"schema_version": 1, "schema_version": 2}',
    "a date": "a: 2001-99-99",
    "a sum": "a: !!int x",
    "a tag": "a: !!python/object/apply:os.mkdir [marker]",
    "an alias of itself": "&a [*a]",
    "a merge": "<<: 3",
    "a key that is a list": "? [a]\n: 3",
    "a colon": ":",
    "a tab": "\ta: 3",
    "a NUL": "a: \0",
    "much of the same": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{n}: &{n} [{','.join([f'*{chr(ord(n) - 1)}'] * 9)}]\n" for n in "bcdefghijk"),
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_texts(text: str, place: Path) -> None:
    folder = place / "hostile"
    folder.mkdir(exist_ok=True)
    for name, read in (("results.json", read_results), ("config.yaml", read_config)):
        (folder / name).write_text(HOSTILE_TEXTS[text])
        tried("bad")
        _, error = attempt(lambda read=read, name=name: read(folder / name))
        if error is not None:
            assert str(folder / name) in error.problem
    _, error = attempt(lambda: read_all(folder))
    assert error is not None
    assert not Path("marker").exists()


# ------------------------------------------------------------------------------------------------------- frame caches


class Cached:
    """A frame cache of two clips, and the bytes of its files."""

    def __init__(self, folder: Path) -> None:
        from centerclip_pl.data.frame_cache.state import complete

        self.settings = CacheSettings("tiny", 8, None, "raw", "pyav")
        (folder / "writing").mkdir(parents=True)
        self.frames = {
            name: np.random.default_rng(seed).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
            for seed, name in enumerate("ab")
        }
        writer = ShardWriter(folder, self.settings, 0, 1 << 20)
        for name, frames in self.frames.items():
            writer.add(Clip(name, f"{name}.mp4", None, None, 10, 20), [pack(frame, "raw") for frame in frames])
        writer.finish()
        complete(folder, self.settings, writer.finished, {"train": 2})
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    return Cached(tmp_path_factory.mktemp("cache") / "c")


def read_cache(cached: Cached, folder: Path) -> Any:
    cache = FrameCache(folder)
    cache.check_shards()
    return {name: cache.read(name, lambda frames: list(range(frames))) for name in cached.frames}


@FILES
@given(which=st.integers(0, 2), damage=damages())
def test_damaged_caches_give_the_same_frames_or_none(cached: Cached, place: Path, which: int, damage: Damage) -> None:
    folder = place / "cache"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for number, (name, content) in enumerate(sorted(cached.files.items())):
        (folder / name).write_bytes(damage(content) if number == which else content)
    tried("bad")
    found, error = attempt(lambda: read_cache(cached, folder))
    if error is not None:
        assert str(folder) in str(error)
        return
    for name, frames in cached.frames.items():
        assert torch.equal(found[name], torch.from_numpy(frames))


@FILES
@given(key=st.integers(0, 20), value=JSON_VALUES | st.sampled_from(["../../etc/passwd", "/etc/passwd", "", ".", "\0"]))
def test_cache_descriptions_with_another_value(cached: Cached, place: Path, key: int, value: Any) -> None:
    folder = place / "cache"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in cached.files.items():
        (folder / name).write_bytes(content)
    fields = json.loads(cached.files[MANIFEST])
    fields[list(fields)[key % len(fields)]] = value
    (folder / MANIFEST).write_text(json.dumps(fields))
    tried("bad")
    found, error = attempt(lambda: read_cache(cached, folder))
    if error is None:
        assert found.keys() == cached.frames.keys()
    else:
        assert str(folder) in str(error)
