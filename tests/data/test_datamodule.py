from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint

from centerclip_pl.data import MSRVTT, Custom, RetrievalDataModule
from centerclip_pl.data.captions import caption_table
from centerclip_pl.errors import ConfigError, DataError, VideoError
from centerclip_pl.video.check import Child

SMALL: dict[str, Any] = {"num_frames": 3, "image_size": 16, "max_words": 5, "batch_size": 4, "num_workers": 0}


@pytest.fixture
def make_data(corpus: Any, tokenizer_folder: str) -> Callable[..., Custom]:
    def make(**options: Any) -> Custom:
        return Custom(str(corpus.captions), **{**SMALL, "tokenizer": tokenizer_folder, **options})

    return make


class Seen(L.LightningModule):
    """Learns nothing, remembers the batches of each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches: dict[str, list[Any]] = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.batches["train"].append(batch)
        return self.weight.sum()

    def validation_step(self, batch: Any, index: int) -> None:
        self.batches["val"].append(batch)

    def test_step(self, batch: Any, index: int) -> None:
        self.batches["test"].append(batch)

    def predict_step(self, batch: Any, index: int) -> None:
        self.batches["predict"].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(tmp_path: Path, **options: Any) -> L.Trainer:
    defaults: dict[str, Any] = {"enable_checkpointing": False, "num_sanity_val_steps": 0}
    return L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{**defaults, **options},
    )


def joined(batches: list[Any], name: str) -> list[Any]:
    return torch.cat([batch[name] for batch in batches]).tolist()


def levels(batches: list[Any]) -> list[int]:
    """The number of each video of the corpus, told by its grey."""
    grey = torch.cat([batch["frames"].float().mean(dim=(1, 2, 3, 4)) for batch in batches])
    return ((grey - 10) / 12).round().int().tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_trainer_gets_frames_captions_and_ids_that_belong_together(
    make_data: Callable[..., Custom], tmp_path: Path, workers: int
) -> None:
    data, model = make_data(num_workers=workers), Seen()
    run = trainer(tmp_path, max_epochs=2)
    run.fit(model, data)
    run.test(model, data, verbose=False)
    run.predict(model, data, return_predictions=False)
    seen = model.batches
    assert len(seen["train"]) == 2 * 2  # 10 videos, full batches of 4
    first = {"train": 0, "val": 10, "test": 13, "predict": 13}
    for stage, split in [("train", "train"), ("val", "val"), ("test", "test"), ("predict", "test")]:
        table, videos = data.captions(split), data.videos(split)
        for batch in seen[stage]:
            numbers = levels([batch])
            assert [first[stage] + video for video in batch["video_ids"].tolist()] == numbers
            assert [f"{split}{number - first[stage]}.mp4" for number in numbers] == [
                videos[video] for video in batch["video_ids"].tolist()
            ]
            for text, video, ids in zip(
                batch["text_ids"].tolist(), batch["video_of_text"].tolist(), batch["input_ids"].tolist(), strict=True
            ):
                row = table.loc[text]
                assert row["video_id"] == videos[video]
                assert row["caption"] == f"w{ids[1] - 4} w{ids[2] - 4}"
    for stage, texts in [("val", 6), ("test", 10), ("predict", 10)]:
        epochs = 2 if stage == "val" else 1
        assert joined(seen[stage], "text_ids") == list(range(texts)) * epochs
    assert joined(seen["train"][:2], "video_ids") != joined(seen["train"][2:], "video_ids")


def test_a_run_that_resumes_sees_what_an_uninterrupted_one_saw(
    make_data: Callable[..., Custom], tmp_path: Path
) -> None:
    def fit(epochs: int, resume: str | None = None) -> Seen:
        L.seed_everything(7, verbose=False)
        model, run = Seen(), trainer(tmp_path, max_epochs=epochs, limit_val_batches=0)
        run.fit(model, make_data(), ckpt_path=resume, weights_only=True)
        run.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return model

    whole = fit(3).batches["train"]
    fit(2)
    rest = fit(3, str(tmp_path / "2.ckpt")).batches["train"]
    assert len(rest) == 2
    for batch, expected in zip(rest, whole[4:], strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in batch)


class Interrupt(L.Callback):
    """Ctrl-C, in the hook of that name when it is called for the ``count``-th time."""

    def __init__(self, hook: str, count: int) -> None:
        self.left = count
        setattr(self, hook, self.called)

    def called(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Steps(Seen):
    """Counts its optimiser steps in its weight."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


# Of 3 epochs of 5 batches, the second is interrupted: when its third batch is there, before the step and after it;
# after its last; when the validation at its end begins, and within it; when the epoch itself begins. The sanity check
# comes first. `done`: batches trained on until then.
@pytest.mark.parametrize(
    ("hook", "count", "done", "workers"),
    [
        ("on_train_batch_start", 8, 7, 0),
        ("on_train_batch_start", 8, 7, 2),
        ("on_train_batch_end", 8, 8, 2),
        ("on_train_batch_end", 10, 10, 0),
        ("on_validation_start", 3, 10, 0),
        ("on_validation_batch_start", 5, 10, 2),
        ("on_train_epoch_start", 2, 5, 0),
    ],
)
def test_a_run_that_was_interrupted_within_an_epoch_goes_on_where_it_was(
    make_data: Callable[..., Custom], tmp_path: Path, hook: str, count: int, done: int, workers: int
) -> None:
    def fit(*callbacks: L.Callback, resume: Path | None = None) -> Steps:
        L.seed_everything(7, verbose=False)
        model = Steps()
        run = trainer(
            tmp_path, max_epochs=3, callbacks=[*callbacks], enable_checkpointing=bool(callbacks), num_sanity_val_steps=1
        )
        data = make_data(batch_size=2, num_workers=workers)
        try:
            run.fit(model, data, ckpt_path=resume, weights_only=resume is not None)
        except SystemExit:  # what Lightning makes of Ctrl-C
            assert callbacks
        return model

    whole = fit()
    assert (len(whole.batches["train"]), whole.weight.item()) == (15, -15)
    last = ModelCheckpoint(tmp_path / hook, filename="last", save_on_exception=True, enable_version_counter=False)
    begun = fit(Interrupt(hook, count), last).batches["train"]
    assert len(begun) == done
    (saved,) = (tmp_path / hook).iterdir()
    rest = fit(resume=saved)
    assert rest.weight.item() == -15
    batches = [*begun, *rest.batches["train"]]
    for batch, expected in zip(batches, whole.batches["train"], strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in batch)


def test_facts_for_reports(make_data: Callable[..., Custom]) -> None:
    data = make_data()
    data.setup("fit")
    assert data.videos("val") == ["val0.mp4", "val1.mp4", "val2.mp4"]
    assert data.counts() == {
        "train": {"videos": 10, "texts": 30, "missing": 0, "broken": 0},
        "val": {"videos": 3, "texts": 6, "missing": 0, "broken": 0},
        "test": {"videos": 4, "texts": 10, "missing": 0, "broken": 0},
    }
    assert data.bad_videos == []
    assert data.tagged_texts("test") == {"order": [3, 4, 5]}
    assert data.tagged_texts("train") == {}
    assert data.protocol("test") == "custom:captions.csv:test"


@pytest.mark.parametrize(("stage", "splits"), [("validate", ["val"]), ("test", ["test"]), ("predict", ["val"])])
def test_only_the_splits_of_the_stage_are_needed(
    make_data: Callable[..., Custom], corpus: Any, stage: str, splits: list[str]
) -> None:
    (corpus.root / "train3.mp4").unlink()
    data = make_data(predict_split="val")
    data.setup(stage)
    assert list(data.counts()) == splits
    with pytest.raises(DataError, match=r"train3\.mp4"):
        data.setup("fit")


def break_some(corpus: Any) -> None:
    (corpus.root / "train2.mp4").unlink()
    (corpus.root / "train5.mp4").write_bytes(b"")
    (corpus.root / "test1.mp4").write_text("no video")


def test_training_never_starts_on_bad_videos(make_data: Callable[..., Custom], corpus: Any, tmp_path: Path) -> None:
    break_some(corpus)
    model = Seen()
    with pytest.raises(DataError) as caught:
        trainer(tmp_path, max_epochs=1).fit(model, make_data())
    assert model.batches["train"] == []
    problem = caught.value.problem
    assert "3 of 17 videos cannot be used (1 missing, 2 broken)" in problem
    assert f"{corpus.root / 'train5.mp4'} (train): is empty (0 bytes)" in problem
    assert f"{corpus.root / 'test1.mp4'} (test): is not a video" in problem
    assert f"{corpus.root / 'train2.mp4'} (train): does not exist" in problem
    assert "--data.on_bad_video=drop" in str(caught.value.next_step)
    assert "--data.root=FOLDER" in str(caught.value.next_step)  # where the missing ones belong


def test_bad_videos_are_dropped_counted_and_listed(
    make_data: Callable[..., Custom], corpus: Any, tmp_path: Path
) -> None:
    break_some(corpus)
    data, model = make_data(on_bad_video="drop"), Seen()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, data)
    run.test(model, data, verbose=False)
    assert data.counts() == {
        "train": {"videos": 8, "texts": 24, "missing": 1, "broken": 1},
        "val": {"videos": 3, "texts": 6, "missing": 0, "broken": 0},
        "test": {"videos": 3, "texts": 8, "missing": 0, "broken": 1},
    }
    assert [(video["video_id"], video["split"], video["reason"]) for video in data.bad_videos] == [
        ("train2.mp4", "train", "does not exist"),
        ("train5.mp4", "train", "is empty (0 bytes)"),
        ("test1.mp4", "test", "is not a video"),
    ]
    assert data.bad_videos[0]["path"] == str(corpus.root / "train2.mp4")
    assert levels(model.batches["test"]) == [13, 15, 16]
    assert joined(model.batches["test"], "video_ids") == [0, 1, 2]
    assert joined(model.batches["test"], "text_ids") == list(range(8))
    assert data.tagged_texts("test") == {"order": [1, 2, 3]}


def test_resampling_keeps_the_length_of_an_epoch(make_data: Callable[..., Custom], corpus: Any, tmp_path: Path) -> None:
    break_some(corpus)
    data, model = make_data(on_bad_video="resample", batch_size=5), Seen()
    run = trainer(tmp_path, max_epochs=2)
    run.fit(model, data)
    run.test(model, data, verbose=False)
    assert data.counts() == {
        "train": {"videos": 8, "texts": 24, "missing": 1, "broken": 1},
        "val": {"videos": 3, "texts": 6, "missing": 0, "broken": 0},
        "test": {"videos": 3, "texts": 8, "missing": 0, "broken": 1},
    }
    assert [(video["video_id"], video["split"]) for video in data.bad_videos] == [
        ("train2.mp4", "train"),
        ("train5.mp4", "train"),
        ("test1.mp4", "test"),
    ]
    ids = joined(model.batches["train"], "video_ids")
    assert len(ids) == 2 * 10
    assert not {2, 5} & set(ids)
    assert levels(model.batches["train"]) == ids  # the frames are those of the video that took the place
    assert levels(model.batches["test"]) == [13, 15, 16]


@pytest.mark.parametrize("policy", ["drop", "resample"])
@pytest.mark.parametrize("workers", [0, 1])
def test_what_breaks_after_the_check_is_counted_and_listed(
    make_data: Callable[..., Custom], corpus: Any, tmp_path: Path, policy: str, workers: int
) -> None:
    data, model = make_data(on_bad_video=policy, num_workers=workers, batch_size=5), Seen()
    data.check("fit", and_test=True)
    (corpus.root / "train4.mp4").write_text("no longer a video")
    (corpus.root / "test2.mp4").unlink()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, data)
    run.test(model, data, verbose=False)
    assert len(joined(model.batches["train"], "video_ids")) == (9 if policy == "drop" else 10)
    assert 4 not in joined(model.batches["train"], "video_ids")
    assert levels(model.batches["test"]) == [13, 14, 16]
    assert joined(model.batches["test"], "video_ids") == [0, 1, 3]
    assert [(video["video_id"], video["split"], video["reason"]) for video in data.bad_videos] == [
        ("train4.mp4", "train", "is not a video"),
        ("test2.mp4", "test", "does not exist"),
    ]
    counts = data.counts()
    assert counts["train"] == {"videos": 9, "texts": 27, "missing": 0, "broken": 1}
    assert counts["test"] == {"videos": 3, "texts": 7, "missing": 1, "broken": 0}


def test_processes_share_what_they_could_not_read(
    make_data: Callable[..., Custom], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_data(on_bad_video="drop"), make_data(on_bad_video="drop")
    for data in (first, second):
        data.check("fit")
    first._splits.lost("train")[3] = "is damaged"
    second._splits.lost("train")[1] = "does not exist"

    def gather(everyone: list[Any], own: Any) -> None:
        everyone[:] = [first._splits._lost, second._splits._lost]

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    first.share_bad_videos()
    assert [video["video_id"] for video in first.bad_videos] == ["train1.mp4", "train3.mp4"]
    assert first.counts()["train"] == {"videos": 8, "texts": 24, "missing": 1, "broken": 1}


def test_prepared_videos_take_the_place_of_the_published_ones(
    make_data: Callable[..., Custom], corpus: Any, tmp_path: Path
) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for file in corpus.root.glob("*.mp4"):
        if file.name != "train3.mp4":
            file.rename(prepared / file.name)
    data, model = make_data(videos=str(prepared), on_bad_video="drop"), Seen()
    trainer(tmp_path, max_epochs=1).fit(model, data)
    assert {Path(path).parent for path in data.captions("train")["path"]} == {prepared}
    assert [video["path"] for video in data.bad_videos] == [str(prepared / "train3.mp4")]
    with pytest.raises(DataError, match=r"train3\.mp4 \(train\): does not exist[\s\S]*centerclip data prepare custom"):
        make_data(videos=str(prepared)).check("fit")
    with pytest.raises(DataError, match=r"the folder of prepared videos, .*nowhere, does not exist"):
        make_data(videos=str(tmp_path / "nowhere")).check("fit")
    with pytest.raises(ConfigError, match="frames come from one of them"):
        make_data(videos=str(prepared), cache=str(prepared))


def test_a_split_is_never_dropped_whole(make_data: Callable[..., Custom], corpus: Any) -> None:
    for k in range(3):
        (corpus.root / f"val{k}.mp4").unlink()
    with pytest.raises(DataError, match="3 of 17 videos cannot be used"):
        make_data(on_bad_video="drop").setup("fit")


def test_many_missing_videos_make_a_short_message(make_data: Callable[..., Custom], corpus: Any) -> None:
    for file in corpus.root.glob("train*.mp4"):
        file.unlink()
    with pytest.raises(DataError) as caught:
        make_data().setup("fit")
    assert "10 of 17 videos cannot be used (10 missing)" in caught.value.problem
    assert "... and 5 more" in caught.value.problem
    assert len(str(caught.value).splitlines()) < 15


def test_a_second_setup_opens_no_video(make_data: Callable[..., Custom], monkeypatch: pytest.MonkeyPatch) -> None:
    make_data().setup("fit")

    def refuse(*args: Any) -> None:
        raise AssertionError("checked again")

    monkeypatch.setattr(Child, "ask", refuse)
    make_data().setup("fit")


def test_a_video_that_vanishes_after_the_check(make_data: Callable[..., Custom], corpus: Any, tmp_path: Path) -> None:
    data = make_data(num_workers=1)
    data.setup("fit")
    for file in corpus.root.glob("train*.mp4"):
        file.unlink()
    with pytest.raises(VideoError, match=r"train\d\.mp4: does not exist"):
        trainer(tmp_path, max_epochs=1).fit(Seen(), data)


def test_held_out_videos_and_selecting_on_test(make_data: Callable[..., Custom], corpus: Any) -> None:
    text = "\n".join(line for line in corpus.captions.read_text().splitlines() if ",val," not in line)
    corpus.captions.write_text(text)
    data = make_data(val_videos=3)
    data.setup("fit")
    assert data.counts()["train"]["videos"] == 7
    assert data.counts()["val"]["videos"] == 3
    assert set(data.videos("train")).isdisjoint(data.videos("val"))
    chosen = make_data(select_on_test=True)
    chosen.setup("fit")
    assert chosen.select_on_test
    assert chosen.counts()["train"]["videos"] == 10
    assert chosen.videos("val") == chosen.videos("test")
    assert chosen.captions("val").equals(chosen.captions("test"))


def test_a_file_shorter_than_its_time_span(make_data: Callable[..., Custom], corpus: Any) -> None:
    head, *lines = corpus.captions.read_text().splitlines()
    lines = [head + ",start,end", *(f"{line},," for line in lines), "train0.mp4,w1,train,,9,10"]
    corpus.captions.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"train0\.mp4 \(train\): lasts 0\.25 s, so it has nothing from 9 s on"):
        make_data().setup("fit")


def test_too_few_videos_for_a_batch(make_data: Callable[..., Custom]) -> None:
    data = make_data(batch_size=11)
    data.setup("fit")
    with pytest.raises(DataError, match=r"10 training items .* batch_size=11") as caught:
        data.train_dataloader()
    assert "--data.batch_size=10" in str(caught.value.next_step)


def test_a_missing_folder_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        MSRVTT(root=str(tmp_path / "msrvtt")).setup("fit")
    assert str(tmp_path / "msrvtt") in str(caught.value.next_step)
    assert "MSRVTT_data.json" in str(caught.value.next_step)


def test_a_missing_tokenizer_is_found_before_training(make_data: Callable[..., Custom], tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no such folder"):
        make_data(tokenizer=str(tmp_path / "nowhere")).setup("fit")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_frames", 0),
        ("batch_size", -1),
        ("eval_batch_size", -2),
        ("image_size", 0),
        ("num_workers", -1),
        ("on_bad_video", "ignore"),
        ("train_sampling", "first"),
        ("eval_sampling", "random"),
        ("train_order", "backward"),
        ("eval_order", "random"),
        ("decoder", "opencv"),
        ("fps", 0),
        ("captions_per_video", "some"),
        ("predict_split", "dev"),
        ("check_timeout", 0),
        ("loader_timeout", 0),
        ("max_words", 2),
    ],
)
def test_impossible_options_are_named(make_data: Callable[..., Custom], option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{option}=.?{value}"):
        make_data(**{option: value})


class Generated(RetrievalDataModule):
    """A dataset of a dozen lines, which makes its own files."""

    name = "generated"

    def __init__(self, root: str, length: Literal[4, 8] = 4, **kwargs: Any) -> None:
        super().__init__(root=root, **kwargs)
        self.length = length

    def tables(self) -> dict[str, pd.DataFrame]:
        rows = [{"video_id": f"{k}", "path": str(self.root / f"{k}.mp4"), "caption": f"w{k}"} for k in range(6)]
        return {"train": caption_table(rows, self.root)}


def test_a_new_dataset_is_a_small_class(
    tmp_path: Path, make_video: Callable[..., Path], tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ensure_files(self: Generated) -> None:
        self.root.mkdir()
        for k in range(6):
            make_video(self.root / f"{k}.mp4", self.length)

    monkeypatch.setattr(Generated, "ensure_files", ensure_files)
    data = Generated(str(tmp_path / "made"), tokenizer=tokenizer_folder, val_videos=2, **{**SMALL, "batch_size": 2})
    trainer(tmp_path, max_epochs=1).fit(Seen(), data)
    assert data.counts()["train"]["videos"] == 4
    assert data.protocol("val") == "generated-val"
    with pytest.raises(DataError, match="no test split; it has train, val"):
        data.setup("test")


def test_options_are_found_by_the_command_line(corpus: Any) -> None:
    """What LightningCLI does with `data: {class_path: ..., init_args: {...}}` and `--data.num_frames=...`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(RetrievalDataModule, "data")
    config = parser.parse_args(
        [
            "--data=centerclip_pl.data.MSRVTT",
            "--data.training=7k",
            "--data.num_frames=8",
            "--data.val_videos=0.1",
            "--data.on_bad_video=drop",
            "--data.eval_batch_size=null",
        ]
    )
    data = parser.instantiate(config).data
    assert isinstance(data, MSRVTT)
    assert (data.training_split, data.num_frames, data.val_videos, data.on_bad_video) == ("7k", 8, 0.1, "drop")
    text = f"data:\n  class_path: centerclip_pl.data.Custom\n  init_args:\n    captions: {corpus.captions}\n"
    data = parser.instantiate(parser.parse_string(text + "    batch_size: 3\n")).data
    assert isinstance(data, Custom)
    assert (data.batch_size, data.eval_batch_size, data.val_videos) == (3, 3, 0.1)
    with pytest.raises(Exception, match="ignore"):
        parser.parse_args(["--data=centerclip_pl.data.MSRVTT", "--data.on_bad_video=ignore"])
