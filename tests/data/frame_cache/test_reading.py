"""What comes out of a cache is what the decoder gives."""

from __future__ import annotations

import gc
import json
import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from centerclip_pl.data.captions import video_list
from centerclip_pl.data.frame_cache import FrameCache
from centerclip_pl.data.frame_cache.layout import MANIFEST
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.video.sampling import uniform_indices

IDS = ["a", "b", "c0", "c1", "c2"]


@pytest.fixture
def copy(cache_folder: Path, tmp_path: Path) -> Path:
    """A cache that a test may break."""
    return Path(shutil.copytree(cache_folder, tmp_path / "copy"))


def videos_of(source: Any) -> pd.DataFrame:
    return pd.concat([video_list(table) for table in source.tables.values()]).drop_duplicates(ignore_index=True)


def test_raw_frames_are_those_of_the_file_also_within_windows(source: Any, cache_folder: Path) -> None:
    cache = FrameCache(cache_folder)
    for video_id in IDS:
        expected = source.frames(video_id)
        got = cache.read(video_id, range)
        assert got.dtype == torch.uint8
        assert got.is_contiguous()
        assert torch.equal(got, expected), video_id
    assert [len(source.frames(video_id)) for video_id in IDS] == cache.clips["frames"].tolist() == [24, 30, 12, 16, 12]


def test_choose_is_told_the_length_and_gets_the_frames_it_names(source: Any, cache_folder: Path) -> None:
    told: list[int] = []

    def choose(available: int) -> list[int]:
        told.append(available)
        return uniform_indices(available, 5)

    got = FrameCache(cache_folder).read("c1", choose)
    assert told == [16]
    assert torch.equal(got, source.frames("c1")[uniform_indices(16, 5)])
    repeated = FrameCache(cache_folder).read("c1", lambda _: [3, 3, 15])
    assert torch.equal(repeated, source.frames("c1")[[3, 3, 15]])
    assert FrameCache(cache_folder).read("c1", lambda _: []).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("wrong", [[16], [-1]])
def test_a_frame_that_is_not_there_is_refused(cache_folder: Path, wrong: list[int]) -> None:
    with pytest.raises(IndexError, match="frames 0 to 15"):
        FrameCache(cache_folder).read("c1", lambda _: wrong)


def test_jpeg_is_within_a_few_grey_levels_and_smaller(source: Any, tmp_path: Path) -> None:
    written = source.write(tmp_path / "jpeg", encoding="jpeg")
    cache = FrameCache(tmp_path / "jpeg")
    for video_id in IDS:
        difference = (cache.read(video_id, range).int() - source.frames(video_id).int()).abs()
        assert difference.float().mean() < 2, video_id
        assert difference.max() <= 12, video_id
    assert written.size < sum(cache.clips["frames"]) * 3 * 32 * 32 / 2


def test_frames_at_a_lower_rate(source: Any, tmp_path: Path) -> None:
    source.write(tmp_path / "slow", fps=3.0)
    cache = FrameCache(tmp_path / "slow")
    for video_id in IDS:
        assert torch.equal(cache.read(video_id, range), source.frames(video_id, fps=3.0))
    assert cache.clips["frames"].tolist()[:2] == [6, 8]  # 2 s and 2.5 s


def test_only_the_chosen_frames_are_read(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    cache = FrameCache(cache_folder)
    cache.read("b", lambda _: [0])
    asked: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, at: asked.append(count) or pread(file, count, at))
    cache.read("b", lambda _: [2, 9])
    assert len(asked) == 2
    assert 2 * 3072 <= sum(asked) < 2 * (3072 + 400)


def test_shards_are_arrow_files_that_any_reader_opens(source: Any, cache_folder: Path) -> None:
    with pa.ipc.open_file(cache_folder / "frames-00000.arrow") as reader:
        assert reader.num_record_batches == 24 + 30 + 12 + 16 + 12
        first = reader.get_batch(0).to_pylist()[0]
        assert json.loads(reader.schema.metadata[b"centerclip"])["image_size"] == 32
    frame = np.frombuffer(first["image"], np.uint8).reshape(3, 32, 32)
    assert np.array_equal(frame, source.frames(first["video_id"])[first["frame"]])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_loader_processes_of_both_kinds_read_it(source: Any, cache_folder: Path, context: str) -> None:
    cache = FrameCache(cache_folder)
    cache.read("a", range)  # open in this process, too: a child must not use what the parent opened
    gc.collect()  # PyAV frames that are garbage here would wait for their threads in a forked process, for ever
    loader: Any = DataLoader(
        [*IDS, *IDS],  # type: ignore[arg-type]  # a list is a dataset
        batch_size=None,
        collate_fn=partial(FrameCache.read, cache, choose=range),
        num_workers=2,
        multiprocessing_context=context,
        timeout=60,
    )
    for video_id, got in zip([*IDS, *IDS], loader, strict=True):
        assert torch.equal(got, source.frames(video_id))


def test_it_is_pickled_as_its_path_alone(cache_folder: Path) -> None:
    cache = FrameCache(cache_folder)
    cache.read("a", range)
    assert len(pickle.dumps(cache)) < 500
    assert torch.equal(pickle.loads(pickle.dumps(cache)).read("b", range), cache.read("b", range))
    FrameCache("/nowhere/at/all")  # nothing is opened before it is used


def test_check_accepts_what_is_there(source: Any, cache_folder: Path) -> None:
    FrameCache(cache_folder).check(videos_of(source), 32, None)


def test_check_names_clips_that_are_absent_or_have_other_times(source: Any, cache_folder: Path) -> None:
    videos = videos_of(source)
    videos.loc[videos["video_id"] == "c1", "end"] = 2.0
    videos.loc[len(videos)] = ["new", "new.mp4", float("nan"), float("nan")]
    with pytest.raises(DataError, match="lacks 2 of 6 clips") as caught:
        FrameCache(cache_folder).check(videos, 32, None)
    assert "c1: is there with other times" in caught.value.problem
    assert "new: is not in it" in caught.value.problem


def test_check_refuses_another_size_or_rate(source: Any, cache_folder: Path) -> None:
    cache = FrameCache(cache_folder)
    with pytest.raises(ConfigError, match="frames of 32 pixels; 224 are wanted"):
        cache.check(videos_of(source), 224, None)
    with pytest.raises(ConfigError, match=r"holds every frame of the files; the run wants 1 frames a second") as caught:
        cache.check(videos_of(source), 32, 1.0)
    assert "--data.fps=null" in str(caught.value.next_step)


def test_another_format_version_is_refused(copy: Path) -> None:
    fields = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(fields | {"format_version": 1}))
    with pytest.raises(DataError, match="format version 1; this program reads version 2"):
        FrameCache(copy).check_options(32, None)


def test_a_folder_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a complete frame cache"):
        _ = FrameCache(tmp_path).clips
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        _ = FrameCache(tmp_path).clips
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(DataError, match="describes no frame cache"):
        _ = FrameCache(tmp_path).clips


def test_an_unknown_clip_is_named(cache_folder: Path) -> None:
    with pytest.raises(DataError, match="has no clip 'x'"):
        FrameCache(cache_folder).read("x", range)


def test_a_missing_shard_is_named(source: Any, copy: Path) -> None:
    (copy / "frames-00000.arrow").unlink()
    for use in (lambda cache: cache.read("a", range), lambda cache: cache.check(videos_of(source), 32, None)):
        with pytest.raises(DataError, match=r"frames-00000.arrow does not exist"):
            use(FrameCache(copy))


def test_a_shard_that_is_cut_off_is_named_also_while_it_is_open(source: Any, copy: Path) -> None:
    cache = FrameCache(copy)
    whole = cache.read("c2", range)
    shard = copy / "frames-00000.arrow"
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size - 2 * 3072 * 3)
    lost = [video_id for video_id in IDS if _is_cut_off(cache, video_id)]
    assert "c2" in lost
    assert len(lost) < len(IDS)  # what lies before the cut can be read
    with pytest.raises(DataError, match=r"frames-00000.arrow is cut off"):
        cache.check(videos_of(source), 32, None)
    assert len(whole) == 12


def _is_cut_off(cache: FrameCache, video_id: str) -> bool:
    try:
        cache.read(video_id, range)
    except DataError as error:
        return "frames-00000.arrow is cut off" in error.problem
    return False


def test_one_changed_byte_is_found(copy: Path) -> None:
    shard = copy / "frames-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    damaged = 0
    for video_id in IDS:
        try:
            FrameCache(copy).read(video_id, range)
        except DataError as error:
            damaged += 1
            assert "frames-00000.arrow is damaged" in error.problem  # noqa: PT017
    assert damaged == 1


def test_a_shard_of_another_cache_is_not_believed(source: Any, copy: Path, tmp_path: Path) -> None:
    source.write(tmp_path / "other", tables={"test": source.tables["test"]})
    shutil.copy(tmp_path / "other" / "frames-00000.arrow", copy / "frames-00000.arrow")
    with pytest.raises(DataError, match=r"another checksum|cut off"):
        FrameCache(copy).read("a", range)


def test_a_table_that_is_not_the_one_described_is_refused(copy: Path) -> None:
    table = next(copy.glob("clips-*.parquet"))
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(DataError, match="is not the table that"):
        _ = FrameCache(copy).clips


def test_the_cache_of_another_dataset_is_named_as_such(source: Any, cache_folder: Path) -> None:
    cache = FrameCache(cache_folder)
    cache.check(videos_of(source), 32, None, dataset="tiny")
    with pytest.raises(ConfigError, match="cache of another dataset: tiny; the run reads msvd") as caught:
        cache.check(videos_of(source), 224, 3.0, dataset="msvd")
    assert "centerclip data cache msvd" in str(caught.value.next_step)
    strange = videos_of(source).assign(video_id=["v", "w", "x", "y", "z"])
    with pytest.raises(DataError, match="lacks 5 of 5 clips") as absent:
        cache.check(strange, 32, None)
    assert "it is one of tiny" in str(absent.value.next_step)


def test_a_reader_takes_frames_of_whatever_source(source: Any, cache_folder: Path, copy: Path) -> None:
    fields = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(fields | {"source": "prepared with --fps=3 --size=48 --crf=20"}))
    cache = FrameCache(copy)
    cache.check(videos_of(source), 32, None, dataset="tiny")
    assert torch.equal(cache.read("b", range), FrameCache(cache_folder).read("b", range))
