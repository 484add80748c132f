from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.data import Custom
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.repeated_captions import best_recall, find_repeats
from centerclip_pl.data.statistics import Statistics, cut_share, dataset_statistics, split_samples, summary, token_ids
from centerclip_pl.data.statistics_picture import _edges, draw_statistics, require_format
from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.errors import ConfigError
from centerclip_pl.video.check import Child
from centerclip_pl.video.manifest import VideoCheck


@pytest.fixture
def make_data(corpus: Any, tokenizer_folder: str) -> Callable[..., Custom]:
    def make(**options: Any) -> Custom:
        return Custom(str(corpus.captions), **{"tokenizer": tokenizer_folder, "max_words": 5, **options})

    return make


def test_figures_of_a_dataset(make_data: Callable[..., Custom], corpus: Any) -> None:
    found = dataset_statistics(make_data(), progress=False)
    assert list(found.splits) == ["train", "val", "test"]
    train, test = found.splits["train"], found.splits["test"]
    assert (train.videos, train.missing, train.broken, len(train.words)) == (10, 0, 0, 30)
    frames = [3 + 2 * k for k in range(10)]
    assert sorted(train.num_frames) == frames
    assert sorted(train.durations) == pytest.approx([count / 12 for count in frames], abs=0.01)
    assert train.fps == pytest.approx(np.full(10, 12.0))
    sizes = [(corpus.root / f"train{k}.mp4").stat().st_size / 1e6 for k in range(10)]
    assert train.sizes.tolist() == pytest.approx(sizes)
    assert train.pictures == [("40x32", 10)]
    assert test.captions_a_video.tolist() == [1, 2, 3, 4]
    assert set(train.words) == {2}
    assert train.tokens is not None
    assert set(train.tokens) == {4}
    assert found.no_tokens is None


def test_videos_that_cannot_be_used_are_counted(
    make_data: Callable[..., Custom], corpus: Any, broken_videos: dict[str, Path]
) -> None:
    (corpus.root / "test0.mp4").unlink()
    (corpus.root / "test1.mp4").write_bytes(broken_videos["cut"].read_bytes())
    test = dataset_statistics(make_data(), progress=False).splits["test"]
    assert (test.videos, test.missing, test.broken) == (4, 1, 1)
    assert len(test.durations) == len(test.sizes) == 2
    assert len(test.words) == 10  # captions need no video


def test_no_video_at_all(make_data: Callable[..., Custom], corpus: Any, tmp_path: Path) -> None:
    for file in corpus.root.glob("*.mp4"):
        file.unlink()
    found = dataset_statistics(make_data(), progress=False)
    assert [samples.missing for samples in found.splits.values()] == [10, 3, 4]
    figures = json.loads(json.dumps(found.figures(), allow_nan=False))
    assert figures["splits"]["train"]["duration_seconds"] is None
    assert figures["splits"]["train"]["words_a_caption"]["mean"] == 2
    draw_statistics(found, tmp_path / "a.png", "png")


def test_files_that_are_known_are_not_opened(make_data: Callable[..., Custom], monkeypatch: pytest.MonkeyPatch) -> None:
    make_data().check()
    monkeypatch.setattr(Child, "ask", lambda *_: pytest.fail("opened again"))
    assert dataset_statistics(make_data(), progress=False).splits["train"].missing == 0


def test_without_a_tokenizer(make_data: Callable[..., Custom], tmp_path: Path) -> None:
    (tmp_path / "no tokenizer").mkdir()
    found = dataset_statistics(make_data(tokenizer=str(tmp_path / "no tokenizer")), progress=False)
    assert "no tokenizer can be loaded" in str(found.no_tokens)
    train = found.splits["train"]
    assert train.tokens is None
    assert train.repeats.best_recall_cut is None
    assert cut_share(train, 5) is None
    assert set(train.words) == {2}
    assert found.figures()["no_tokens"]


def test_select_on_test_has_one_split_less(make_data: Callable[..., Custom]) -> None:
    assert list(dataset_statistics(make_data(select_on_test=True), progress=False).splits) == ["train", "test"]


def test_tokens_are_those_of_the_model(tokenizer_folder: str) -> None:
    tokenizer = CaptionTokenizer(tokenizer_folder, max_words=60)
    captions = ["w1", "W2 w3  w4", "w5 " * 40, "nothing known"]
    ids = token_ids(tokenizer, captions, progress=False)
    input_ids, mask = tokenizer(captions)
    for caption, row, length in zip(captions, input_ids, mask.sum(dim=1).tolist(), strict=True):
        assert len(ids[caption]) + 2 == length
        assert list(ids[caption]) == row[1 : length - 1].tolist()


def test_the_share_of_captions_that_are_cut() -> None:
    rows = [{"video_id": str(k), "path": "a", "caption": f"{'x ' * k}{k}"} for k in range(4)]
    table = caption_table(rows, "rows")
    ids = {row["caption"]: tuple(range(k + 1)) for k, row in enumerate(rows)}  # with start and end: 3, 4, 5, 6 tokens
    samples = split_samples(table, {"a": VideoCheck("a", 1, 1, 10, 5.0, 2.0, 4, 4)}, ids, 4)
    assert cut_share(samples, 4) == 50
    assert cut_share(samples, 6) == 0
    assert samples.words.tolist() == [1, 2, 3, 4]


def test_durations_of_parts() -> None:
    spans = [(None, None, 10.0), (2, None, 8.0), (None, 3, 3.0), (4, 6.5, 2.5), (8, 20, 2.0)]
    rows = [
        {"video_id": str(k), "path": "a", "caption": "x", "start": start, "end": end}
        for k, (start, end, _) in enumerate(spans)
    ]
    files = {"a": VideoCheck("a", 5_000_000, 1, 100, 10.0, 10.0, 64, 48)}
    samples = split_samples(caption_table(rows, "rows"), files, None, 32)
    assert samples.durations.tolist() == pytest.approx([length for _, _, length in spans])
    assert (samples.num_frames.tolist(), samples.sizes.tolist()) == ([100], [5.0])  # of the one file
    assert samples.broken == 0


def test_parts_that_begin_after_the_end_are_broken() -> None:
    rows = [
        {"video_id": f"{path}{start}", "path": path, "caption": "x", "start": start, "end": start + 1}
        for path, start in (("a", 9.5), ("a", 10.0), ("b", 11.0))
    ]
    files = {path: VideoCheck(path, 5_000_000, 1, 100, 10.0, 10.0, 64, 48) for path in "ab"}
    samples = split_samples(caption_table(rows, "rows"), files, None, 32)
    assert (samples.videos, samples.missing, samples.broken) == (3, 0, 2)
    assert samples.durations.tolist() == [0.5]
    assert len(samples.num_frames) == 1  # of b nothing is used


def _best_by_trying(queries: list[str], videos: list[str]) -> float:
    """Let each distinct query rank each video first, and count."""
    names = sorted(set(queries))
    best = 0
    for firsts in product(sorted(set(videos)), repeat=len(names)):
        first = dict(zip(names, firsts, strict=True))
        best = max(best, sum(first[query] == video for query, video in zip(queries, videos, strict=True)))
    return 100 * best / len(queries)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_recall_is_the_best_of_all_rankings(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randint(1, 12)
    queries = [chance.choice("abcd") for _ in range(count)]
    videos = [chance.choice("1234") for _ in range(count)]
    assert best_recall(queries, videos) == pytest.approx(_best_by_trying(queries, videos))


def test_shared_captions() -> None:
    captions = [
        ("1", "a dog"),
        ("1", "A  dog"),
        ("2", "a Dog"),
        ("3", "a cat"),
        ("4", "a cat"),
        ("5", "a cat"),
        ("5", "one two three"),
        ("6", "one two four"),
        ("7", "its own"),
        ("7", "its own"),  # twice of one video: no loss
    ]
    table = pd.DataFrame([{"video_id": video, "path": "p", "caption": caption} for video, caption in captions])
    words = {caption: tuple(caption.lower().split()) for _, caption in captions}
    found = find_repeats(table, words, 4)  # two words and start and end
    assert (found.captions, found.videos) == (6, 5)
    assert found.examples == [("a cat", 3), ("a dog", 2)]
    assert found.best_recall == pytest.approx(100 * (2 + 1 + 1 + 1 + 2) / 10)
    assert found.best_recall_cut == pytest.approx(100 * (2 + 1 + 1 + 2) / 10)
    assert find_repeats(table, None, 4).best_recall_cut is None


def test_summaries() -> None:
    assert summary(np.array([1, 2, 3, 4, 10])) == {"min": 1, "q1": 2, "median": 3, "q3": 4, "max": 10, "mean": 4}
    assert summary(np.array([])) is None


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_picture(make_data: Callable[..., Custom], tmp_path: Path, form: str) -> None:
    found = dataset_statistics(make_data(), progress=False)
    draw_statistics(found, tmp_path / "one", form)
    draw_statistics(found, tmp_path / "two", form)
    begin = {"png": b"\x89PNG", "svg": b"<?xml"}[form]
    assert (tmp_path / "one").read_bytes().startswith(begin)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_the_picture_says(make_data: Callable[..., Custom], monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    found = dataset_statistics(make_data(), progress=False)
    draw_statistics(found, Path("unused"), "png")
    draw_statistics(_without_tokens(found), Path("unused"), "png")
    durations, lengths, captions = drawn[0].axes
    assert [ax.get_xlabel() for ax in (durations, captions)] == ["duration (s)", "captions a video"]
    assert all(ax.get_title() and "%" in ax.get_ylabel() for ax in drawn[0].axes)
    for ax in drawn[0].axes:
        assert len(ax.patches) == 3  # a line a split
        for steps in ax.patches:
            assert steps.get_data().values.sum() == pytest.approx(100)  # nothing lies outside
    assert [line.get_xdata()[0] for line in lengths.lines] == [5.5]
    assert "max_words = 5" in lengths.texts[0].get_text()
    assert "words a caption" in drawn[1].axes[1].get_xlabel()
    assert drawn[1].axes[1].lines[0].get_xdata()[0] == 3.5


def _without_tokens(found: Statistics) -> Statistics:
    return found._replace(splits={name: samples._replace(tokens=None) for name, samples in found.splits.items()})


@pytest.mark.parametrize("fps", [12, 25, 29.97])
@pytest.mark.parametrize("frames", [(24, 48), (20, 300), (100, 900)])
def test_durations_of_whole_frames_make_no_comb(fps: float, frames: tuple[int, int]) -> None:
    """Each bin takes as many possible durations as the next, but for the last."""
    counts = np.arange(frames[0], frames[1] + 1)
    durations = np.round(counts / fps, 3)  # as containers round them
    found = np.histogram(durations, _edges(np.repeat(durations, 8), whole=False))[0]
    assert found.sum() == len(durations)
    assert 6 <= len(found) <= 42
    assert len(set(found[:-1])) == 1
    assert 0 < found[-1] <= found[0]


def test_durations_without_a_grid_all_lie_in_bins() -> None:
    chance = np.random.default_rng(0)
    for count in (2, 3, 50, 5000):
        numbers = chance.gamma(3.0, 5.0, count)
        found = np.histogram(numbers, _edges(numbers, whole=False))[0]
        assert found.sum() == count
        assert len(found) <= 42
        assert found[0] > 0
        assert found[-1] > 0


def test_the_form_of_the_picture() -> None:
    require_format("a.SVG")
    with pytest.raises(ConfigError, match=r"a\.jpg.*\n.*\.png, \.svg"):
        require_format("a.jpg")
