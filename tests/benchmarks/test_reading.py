"""Reading against reading whole, at toy sizes; and that a wrong frame is noticed."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch

from benchmarks import reading
from benchmarks.plan import Plan
from benchmarks.videos import FPS, HEIGHT, WIDTH, read_whole, write_raw
from centerclip_pl.video.decode import read_frames
from centerclip_pl.video.transforms import resize_and_crop

QUICK = Plan(quick=True)


def test_each_kind_of_file_is_compared_both_ways() -> None:
    threads = torch.get_num_threads()
    entries = reading.against_whole(QUICK)
    assert torch.get_num_threads() == threads
    assert [entry.group.split(" / ")[1].split(",")[0] for entry in entries] == [
        *("raw 320x240",) * 2,
        *("prepared",) * 2,
        *("cache of the prepared",) * 2,
    ]
    for entry in entries:
        assert not entry.wrong
        assert entry.ratio is not None
        assert entry.ratio.median > 0
        assert entry.reached is None  # bounds are for real sizes
        assert "clips a second" in entry.detail
    assert entries[4].ratio.median > 1  # type: ignore[union-attr]  # the cache decodes nothing


def test_other_frames_are_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "read_whole", lambda *args: read_whole(*args).flip(0))
    assert all(entry.wrong for entry in reading.against_whole(QUICK))


def test_raw_clips_are_as_they_are_said_to_be(tmp_path: Path) -> None:
    file = write_raw(tmp_path / "raw.mp4", 3.0, seed=0)
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate or 0)) == (WIDTH, HEIGHT, FPS)
        frames = list(container.decode(stream))
    assert len(frames) == 75
    assert sum(frame.key_frame for frame in frames) == 1
    wanted = [0, 30, 74]
    for convert_all in (False, True):
        whole = read_whole(file, wanted, 64, convert_all)
        assert torch.equal(whole, resize_and_crop(read_frames(file, lambda count: wanted), 64))


@pytest.mark.soak
def test_waiting_is_a_share() -> None:
    (entry,) = reading.waiting(QUICK)
    assert entry.ratio is not None
    assert 0 <= entry.ratio.low <= entry.ratio.high <= 1
