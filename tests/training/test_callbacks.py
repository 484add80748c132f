from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from centerclip_pl.errors import NonFiniteError
from centerclip_pl.training.callbacks import ResultsWriter, ThroughputLogger
from centerclip_pl.training.examples import Example, ExampleTable
from centerclip_pl.training.results import read_results


class Keep(Callback):
    """What the callback metrics are after each training step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


class Slow(Callback):
    """A step that takes 20 ms."""

    def on_before_optimizer_step(self, *_: Any) -> None:
        time.sleep(0.02)


def test_throughput_counts_videos_and_waiting(
    tiny: Any, tiny_data: Any, make_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = tiny_data.train_dataloader()
    collate = loader.collate_fn

    def slow_collate(items: Any) -> Any:
        time.sleep(0.06)  # three times as long as a step
        return collate(items)

    loader.collate_fn = slow_collate
    monkeypatch.setattr(tiny_data, "train_dataloader", lambda: loader)
    keep = Keep()
    make_trainer([], Slow(), ThroughputLogger(), keep, limit_val_batches=0, max_epochs=2).fit(tiny, tiny_data)
    last = keep.seen[-1]
    # Lightning fetches the first batch of an epoch before the epoch starts, so two of three are waited for.
    assert 0.3 < last["train/data_wait_share"] < 0.95
    assert 1 < last["train/videos_per_second"] < 4 / 0.04
    assert "train/peak_memory_mb" not in last


def test_results_after_fit_and_test(tmp_path: Path, tiny: Any, tiny_data: Any, make_trainer: Any) -> None:
    writer = ResultsWriter(tmp_path / "run", seed=5, repetitions=2, started=time.perf_counter() - 100)
    trainer = make_trainer([], writer)
    trainer.fit(tiny, tiny_data)
    trainer.test(tiny, tiny_data, ckpt_path="best", verbose=False)
    results = read_results(tmp_path / "run" / "results.json")
    assert results == writer.results
    assert (results["dataset"], results["split"], results["protocol"]) == ("tiny", "test", "tiny-test")
    assert results["metrics"] == {"test/t2v/R@1": 25.0, "test/v2t/R@1": 75.0}
    path = trainer.checkpoint_callback.best_model_path
    assert results["selection"] == {
        "rule": "best",
        "monitor": "val/t2v/R@1",
        "value": 30.0,
        "selected_on": "val",
        "epoch": 1,
        "step": 6,
        "path": path,
        "chosen": "best checkpoint of epoch 1, val/t2v/R@1 30, chosen on validation",
    }
    assert results["counts"]["videos"] == 12
    assert results["counts"]["missing_videos"] == 1
    assert results["counts"]["published_videos"] == 13
    assert results["counts"]["bad_videos"][0]["video_id"] == "v99"
    cost = results["cost"]
    assert cost is not None
    assert cost["gmacs_per_video"] * 1e9 == pytest.approx(3 * 4 + 4 * 4)
    assert (cost["batch_size"], cost["frames"], cost["repetitions"]) == (1, 3, 2)
    assert results["seed"] == 5
    assert 100 <= results["duration_seconds"] < 200


def test_selection_is_known_in_a_later_process(tmp_path: Path, tiny: Any, tiny_data: Any, make_trainer: Any) -> None:
    """A trainer that has not trained knows only the file."""
    trained = make_trainer([], ModelCheckpoint(tmp_path / "checkpoints", filename="last"))
    trained.fit(tiny, tiny_data)
    best, last = trained.checkpoint_callback.best_model_path, tmp_path / "checkpoints" / "last.ckpt"
    for path, rule, monitor, epoch in ((best, "best", "val/t2v/R@1", 1), (last, "given", None, 2)):
        writer = ResultsWriter(tmp_path / "later", measure=False)
        make_trainer([], writer).test(tiny, tiny_data, ckpt_path=path, verbose=False)
        selection = read_results(writer.path)["selection"]
        assert (selection["rule"], selection["monitor"], selection["epoch"]) == (rule, monitor, epoch)
        assert read_results(writer.path)["cost"] is None


def test_zero_shot_and_last(tmp_path: Path, tiny: Any, tiny_data: Any, make_trainer: Any) -> None:
    writer = ResultsWriter(tmp_path / "run", measure=False)
    trainer = make_trainer([], writer)
    trainer.test(tiny, tiny_data, verbose=False)
    assert read_results(writer.path)["selection"]["rule"] == "zero-shot"
    trainer.fit(tiny, tiny_data)
    trainer.test(tiny, tiny_data, verbose=False)
    selection = read_results(writer.path)["selection"]
    assert (selection["rule"], selection["epoch"], selection["step"]) == ("last", 2, 9)


def test_choosing_on_the_test_set_is_labelled(tmp_path: Path, tiny: Any, tiny_data: Any, make_trainer: Any) -> None:
    tiny_data.select_on_test = True
    writer = ResultsWriter(tmp_path / "run", measure=False)
    trainer = make_trainer([], writer)
    trainer.fit(tiny, tiny_data)
    trainer.test(tiny, tiny_data, ckpt_path="best", verbose=False)
    assert read_results(writer.path)["selection"]["selected_on"] == "test"


def test_metrics_that_are_no_numbers_end_the_test(
    tmp_path: Path, tiny: Any, tiny_data: Any, make_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "on_test_epoch_end", lambda: tiny.log("test/t2v/R@1", float("nan")))
    writer = ResultsWriter(tmp_path / "run", measure=False)
    with pytest.raises(NonFiniteError, match="test/t2v/R@1"):
        make_trainer([], writer).test(tiny, tiny_data, verbose=False)
    assert not writer.path.exists()


def test_examples_need_no_logger(tiny: Any, tiny_data: Any, make_trainer: Any) -> None:
    def never(video: int) -> Tensor:
        raise AssertionError("a frame was decoded that nobody will see")

    make_trainer([], ExampleTable(frame_of=never)).test(tiny, tiny_data, verbose=False)


def test_examples_are_spread_over_the_texts(tiny: Any, tiny_data: Any) -> None:
    examples = ExampleTable(queries=4, best=3).choose(tiny, tiny_data)
    assert [example.caption for example in examples] == ["grey 0", "grey 40", "grey 70", "grey 110"]
    assert examples[1] == Example("grey 40", right=4, found=[3, 4, 5])
    assert len(ExampleTable(queries=100).choose(tiny, tiny_data)) == 12
    assert len(ExampleTable(best=100).choose(tiny, tiny_data)[0].found) == 12


def test_rank_of_an_example() -> None:
    assert Example("", right=7, found=[7, 2]).rank == "1"
    assert Example("", right=2, found=[7, 2]).rank == "2"
    assert Example("", right=1, found=[7, 2]).rank == "> 2"


def test_each_video_is_decoded_once_and_shown_small() -> None:
    asked: list[int] = []

    def frame(video: int) -> Tensor:
        asked.append(video)
        return torch.full((3, 240, 320), video, dtype=torch.uint8)

    examples = [Example("a", 0, [1, 0]), Example("b", 1, [1, 2])]
    columns, rows = ExampleTable(size=64).table(examples, ["x", "y", "z"], frame)
    assert asked == [0, 1, 2]
    assert columns == ["query", "right video", "rank", "right", "top 1", "top 2", "found"]
    assert rows[0][:3] == ["a", "x", "2"]
    assert rows[1][-1] == "y, z"
    picture = rows[1][5]
    assert picture._caption == "z"
    assert picture.image.size == (64, 48)
    assert picture.image.getpixel((0, 0)) == (2, 2, 2)
