"""What a comparison with a published row says: figures, differences, and each thing that is not as published."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centerclip_pl.errors import ConfigError
from centerclip_pl.training.comparison import Comparison, compare
from centerclip_pl.training.comparison_table import format_comparison, format_rows, format_tables
from centerclip_pl.training.published import PublishedRow, read_published
from centerclip_pl.training.results import Results
from centerclip_pl.training.run_settings import effective, effective_batch

PAPERS = Path(__file__).parents[2] / "experiments/papers"
TABLES = read_published(PAPERS)
ROW = TABLES["msrvtt-9k"][3]  # k-medoids, B6-4,49, ViT-B/32
BASELINE = TABLES["msrvtt-9k"][2]
Change = Callable[[dict[str, Any], dict[str, Any]], None]

# Text to video R@1 / video to text R@1 of the papers' tables 1 to 4, written down apart from centerclip.csv.
RECALLS = {
    "msrvtt-9k": "43.1/43.1 44.5/42.7 43.0/43.1 43.6/42.9 44.0/42.9 43.6/43.5 44.2/42.8 45.6/43.2 48.4/47.7",
    "msvd": "46.2/56.6 45.2/62.0 45.9/51.0 47.6/54.2 47.3/57.9 47.4/62.7 47.3/63.5 49.6/62.7 50.6/68.4",
    "lsmdc": "20.7/20.6 22.6/20.8 20.1/21.2 21.9/21.1 21.7/21.4 21.6/20.6 21.4/19.5 24.1/22.5 24.2/24.5",
    "activitynet": "40.5/42.5 40.5/41.4 41.8/42.8 43.9/44.2 43.5/44.5 43.5/44.1 43.9/44.5 46.2/46.7",
}


def as_published(row: PublishedRow = ROW) -> tuple[dict[str, Any], dict[str, Any]]:
    """results.json and config.yaml of a run just as published, with the published figures."""
    figures = {f"test/{key}": value for key, value in row.figures.items()}
    counts = {"missing": 0, "broken": 0}
    results = {
        "dataset": "msrvtt",
        "split": "test",
        "protocol": "msrvtt-1ka",
        "selection": {
            "rule": "best",
            "monitor": "val/t2v/R@1",
            "value": 43.6,
            "selected_on": "test",
            "epoch": 4,
            "step": 5 * 1406,
            "path": "best.ckpt",
        },
        "metrics": figures,
        "cost": {"encode_ms_per_video": 11.26, "device": "NVIDIA A100-SXM4-40GB"},
        "counts": {
            "videos": 1000,
            "texts": 1000,
            "missing_videos": 0,
            "broken_videos": 0,
            "bad_videos": [],
            "splits": {
                "train": {"videos": 9000, "texts": 180000, **counts},
                "val": {"videos": 1000, "texts": 1000, **counts},
                "test": {"videos": 1000, "texts": 1000, **counts},
            },
        },
    }
    reducer = {
        "class_path": "centerclip_pl.tokens.KMedoids",
        "init_args": {
            "after_block": "${tokens.after_block}",
            "segments": "${tokens.segments}",
            "clusters": 49,
            "normalize": False,
            "aggregation": "medoid",
            "cluster_embedding": False,
            "metric": "euclidean",
            "p": 2.0,
        },
    }
    config = {
        "model": {
            "backbone": "openai/clip-vit-base-patch32",
            "reduction": reducer if row is ROW else None,
            "head": "meanP",
            "patch": "2d",
            "optimizer": None,
            "freeze_layers": None,
        },
        "data": {
            "class_path": "centerclip_pl.data.MSRVTT",
            "init_args": {
                "training": "9k",
                "fps": None,
                "num_frames": 12,
                "max_words": 32,
                "batch_size": 128,
                "captions_per_video": "all",
                "train_sampling": "random",
                "train_order": "forward",
                "eval_sampling": "uniform",
                "eval_order": "forward",
                "root": "somewhere/else",
            },
        },
        "tokens": {"after_block": 6, "segments": 4, "clusters": 49},
        "trainer": {
            "accelerator": "auto",
            "devices": "auto",
            "num_nodes": 1,
            "accumulate_grad_batches": 1,
            "fast_dev_run": False,
            "gradient_clip_val": 1.0,
            "limit_train_batches": 1.0,
            "max_epochs": 5,
            "max_steps": -1,
            "max_time": None,
            "overfit_batches": 0.0,
            "val_check_interval": None,
        },
        "checkpoint": {"every_n_train_steps": None, "train_time_interval": None},
    }
    return results, config


def compared(change: Change | None = None, row: PublishedRow = ROW, **facts: Any) -> Comparison:
    results, config = copy.deepcopy(as_published(row))
    if change is not None:
        change(results, config)
    return compare(row, results, config, **facts)  # type: ignore[arg-type]


# What was published ---------------------------------------------------------------------------------------------------


def test_every_row_has_the_papers_recalls() -> None:
    found = {
        table: " ".join(f"{row.figures['t2v/R@1']:.1f}/{row.figures['v2t/R@1']:.1f}" for row in rows)
        for table, rows in TABLES.items()
    }
    assert found == RECALLS


def test_a_row_holds_every_column() -> None:
    assert ROW.figures == {
        **{"t2v/R@1": 43.6, "t2v/R@5": 71.4, "t2v/R@10": 81.2, "t2v/MdR": 2, "t2v/MnR": 15.3},
        **{"v2t/R@1": 42.9, "v2t/R@5": 70.4, "v2t/R@10": 80.8, "v2t/MdR": 2, "v2t/MnR": 10.8},
    }
    assert (ROW.memory_gb, ROW.ms_per_video, ROW.source) == (15.0, 22.9, "CenterCLIP table 3b")
    incomplete = {(row.table, row.method): 10 - len(row.figures) for rows in TABLES.values() for row in rows}
    assert {key: n for key, n in incomplete.items() if n} == {
        ("activitynet", "clip4clip-meanP"): 1,
        ("activitynet", "clip4clip-seqTransf"): 1,
    }
    assert TABLES["activitynet"][1].memory_gb is None


@pytest.mark.parametrize(
    ("table", "number", "settings"),
    [
        ("msrvtt-9k", 1, {"data.num_frames": 12, "data.max_words": 32, "data.fps": 1, "trainer.max_epochs": 5}),
        ("msrvtt-9k", 9, {"tokens.segments": 4, "tokens.clusters": 160, "model.reduction": "KMedoids"}),
        ("lsmdc", 6, {"tokens.segments": 6, "tokens.clusters": 49, "model.reduction": "Spectral"}),
        ("activitynet", 2, {"data.num_frames": 64, "data.max_words": 64, "model.optimizer.learning_rate": 1e-4}),
        ("activitynet", 4, {"data.num_frames": 60, "data.max_words": 77, "model.optimizer.learning_rate": 1e-2}),
        ("activitynet", 5, {"tokens.segments": 12, "trainer.max_epochs": 8, "data.batch_size": 128}),
    ],
)
def test_recipes(table: str, number: int, settings: dict[str, Any]) -> None:
    row = TABLES[table][number - 1]
    assert {name: row.settings[name] for name in settings} == settings


def test_what_only_one_of_the_two_recipes_did() -> None:
    for row in (row for rows in TABLES.values() for row in rows):
        assert any("16 bits" in note for note in row.notes) == row.method.startswith("clip4clip")
        assert any("3 frames a second" in note for note in row.notes) != row.method.startswith("clip4clip")
        assert (row.settings["model.optimizer.recipe"] == "clip4clip") == row.method.startswith("clip4clip")


def test_words_are_typed_as_yaml_has_them() -> None:
    row = PublishedRow(**{**vars(ROW), "options": {"a.b": None, "c": True, "d": 0.0001, "e": "9k"}})
    assert row.words()[-4:] == ["--a.b=null", "--c=true", "--d=0.0001", "--e=9k"]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("centerclip.yaml", None, "there is no .*centerclip.yaml"),
        ("centerclip.csv", None, "there is no .*centerclip.csv"),
        ("centerclip.yaml", "a: [", "cannot be read"),
        ("centerclip.yaml", "[]", "line 2: is no row that centerclip.yaml has a recipe for"),
        ("centerclip.csv", "dataset,method\nmsvd,magic\n", "line 2: is no row.*'magic'"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, text: str | None, says: str) -> None:
    for source in PAPERS.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        read_published(tmp_path)


# Reasons --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [ROW, BASELINE], ids=["kmedoids", "baseline"])
def test_a_run_as_published_has_no_reasons(row: PublishedRow) -> None:
    comparison = compared(row=row)
    assert comparison.reasons == ()
    assert ["chosen on the test set" in note for note in comparison.notes] == [False, True]
    assert "is as published" in format_comparison(comparison)


def put(where: str, value: Any) -> Change:
    """Sets ``results:a/b`` or ``config:a/b``."""
    which, _, path = where.partition(":")

    def change(results: dict[str, Any], config: dict[str, Any]) -> None:
        at = {"results": results, "config": config}[which]
        *parents, last = path.split("/")
        for part in parents:
            at = at[part]
        at[last] = value

    return change


DATA, TRAINER, COUNTS = "config:data/init_args/", "config:trainer/", "results:counts/"


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("results:dataset", "demo", "the dataset is demo, not msrvtt"),
        ("results:protocol", "msrvtt-full", "the protocol is msrvtt-full, not msrvtt-1ka"),
        ("results:protocol", "msrvtt-1ka (partial)", "the test is partial: .*"),
        (COUNTS + "texts", 999, "the test split has 1,000 videos and 999 texts, the published one .* 1,000 texts"),
        ("results:selection/selected_on", "val", "the checkpoint was chosen on validation, .* ours is the stricter.*"),
        ("results:selection/rule", "last", "the weights are those at the end of training, .*"),
        ("results:selection/rule", "given", "the weights are of best.ckpt, how they were chosen .* not recorded .*"),
        ("results:selection/rule", "zero-shot", "zero-shot: the weights are as pretrained, .* MSR-VTT.*"),
        (COUNTS + "splits/train/missing", 3, "the train split has 9,003 videos, .*|3 of 9,003 train videos missing"),
        (DATA + "training", "7k", "data.training is 7k, published with 9k"),
        (DATA + "fps", 1, "data.fps is 1, published with none"),
        (DATA + "num_frames", 8, "data.num_frames is 8, published with 12"),
        (DATA + "max_words", 77, "data.max_words is 77, published with 32"),
        (DATA + "captions_per_video", "random", "data.batch_size is 128 in .*|data.captions_per_video is random, .*"),
        (DATA + "batch_size", 100, "data.batch_size is 100 in each process, of how many is not recorded .*"),
        (TRAINER + "devices", 8, "data.batch_size is 1024 in all, published with 128"),
        (TRAINER + "max_epochs", 1, "trainer.max_epochs is 1, published with 5"),
        (
            TRAINER + "limit_train_batches",
            2,
            "data.batch_size is 128 in each .*|trainer.limit_train_batches is 2, .* none",
        ),
        ("config:tokens/segments", 3, "tokens.segments is 3, published with 4"),
        ("config:model/reduction/init_args/clusters", 16, "tokens.clusters is 16, published with 49"),
        ("config:model/reduction/init_args/metric", "cosine", "model.reduction.metric is cosine, .* euclidean"),
        ("config:model/reduction/init_args/aggregation", "mean", "model.reduction.aggregation is mean, .*"),
        ("config:model/reduction/class_path", "x.Spectral", "model.reduction is Spectral, published with KMedoids"),
        ("config:model/reduction", None, "model.reduction is none, published with KMedoids"),
        ("config:model/head", "seqLSTM", "model.head is seqLSTM, published with meanP"),
        ("config:model/optimizer", {"recipe": "clip4clip"}, "model.*recipe is clip4clip, .*|.*rate is 0.0001, .*"),
        ("config:model/optimizer", {"learning_rate": 0.001}, "model.optimizer.learning_rate is 0.001, .* 0.005"),
        ("config:model/backbone", "laion/x", "model.backbone is laion/x, published .*; its architecture is not known"),
    ],
)
def test_each_thing_that_is_not_as_published_is_named(where: str, value: Any, says: str) -> None:
    reasons = compared(put(where, value)).reasons
    patterns = says.split("|")
    assert len(reasons) == len(patterns), reasons
    for reason, pattern in zip(reasons, patterns, strict=True):
        assert re.fullmatch(pattern, reason), reason


def test_missing_and_broken_videos_are_counted_among_those_of_the_split() -> None:
    def change(results: dict[str, Any], config: dict[str, Any]) -> None:
        results["counts"] |= {"videos": 995, "texts": 995, "missing_videos": 3, "broken_videos": 2}
        results["counts"]["splits"]["train"] |= {"videos": 8988, "missing": 12}

    assert compared(change).reasons[:3] == (
        "3 of 1,000 test videos missing",
        "2 of 1,000 test videos broken",
        "12 of 9,000 train videos missing",
    )


def test_training_videos_held_out_for_validation() -> None:
    def change(results: dict[str, Any], config: dict[str, Any]) -> None:
        results["counts"]["splits"]["train"] = {"videos": 8500, "texts": 170000, "missing": 0, "broken": 0}
        results["counts"]["splits"]["val"] = {"videos": 500, "texts": 10000, "missing": 0, "broken": 0}
        results["selection"] |= {"selected_on": "val", "step": 5 * 1328}

    chosen, held_out = compared(change).reasons
    assert "chosen on validation" in chosen
    assert held_out == "trained on 8,500 of 9,000 videos, the other 500 are held out for validation"


def test_zero_shot_does_not_speak_of_training() -> None:
    def change(results: dict[str, Any], config: dict[str, Any]) -> None:
        results["selection"] |= {"rule": "zero-shot", "selected_on": None, "epoch": None, "step": None}
        results["counts"]["splits"] = {"test": results["counts"]["splits"]["test"]}
        config["trainer"]["max_epochs"] = None
        config["data"]["init_args"] |= {"batch_size": 8, "num_frames": 6}

    zero_shot, frames = compared(change).reasons
    assert zero_shot.startswith("zero-shot")
    assert frames == "data.num_frames is 6, published with 12"


def test_without_options_nothing_is_taken_for_granted() -> None:
    results, _ = as_published()
    (reason,) = compare(ROW, results, None).reasons  # type: ignore[arg-type]
    assert "no config.yaml" in reason
    lacking = compared(lambda results, config: config["data"]["init_args"].pop("max_words"))
    assert lacking.reasons == ("data.max_words is not recorded, published with 32",)


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ({"patch_size": 32, "hidden_size": 768, "num_hidden_layers": 12, "image_size": 224}, "is that of ViT-B/32"),
        ({"patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12, "image_size": 224}, "patch_size 16 instead"),
        ({"patch_size": 32}, "hidden_size not recorded instead of 768"),
        (None, "its architecture is not known"),
    ],
)
def test_a_folder_of_weights(architecture: dict[str, int] | None, says: str) -> None:
    (reason,) = compared(put("config:model/backbone", "weights/clip"), architecture=architecture).reasons
    assert reason.startswith("model.backbone is weights/clip, published with openai/clip-vit-base-patch32; ")
    assert says in reason


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_the_global_batch_follows_from_the_steps_of_an_epoch(processes: int) -> None:
    results, config = as_published()
    config["data"]["init_args"]["batch_size"] = each = 128 // processes
    results["selection"]["step"] = 5 * (180000 // processes // each)
    assert effective_batch(config, results) == 128  # type: ignore[arg-type]


@pytest.mark.parametrize("accumulated", [2, 5])
def test_the_steps_of_accumulated_gradients_are_not_taken_for_processes(accumulated: int) -> None:
    results, config = as_published()
    config["trainer"]["accumulate_grad_batches"] = accumulated
    results["selection"]["step"] = 5 * math.ceil(180000 // 128 / accumulated)  # Lightning steps at an epoch's end too
    assert effective_batch(config, results) == 128  # type: ignore[arg-type]
    reasons = compare(ROW, results, config).reasons  # type: ignore[arg-type]
    assert reasons == (f"trainer.accumulate_grad_batches is {accumulated}, published with 1",)


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("trainer", "val_check_interval", 0.5),
        ("trainer", "max_steps", 100),
        ("trainer", "max_time", "00:01:00:00"),
        ("checkpoint", "every_n_train_steps", 10),
    ],
)
def test_steps_of_a_part_of_an_epoch_do_not_tell_the_processes(section: str, option: str, value: Any) -> None:
    results, config = as_published()
    config[section][option] = value
    assert effective_batch(config, results) is None  # type: ignore[arg-type]
    config["trainer"]["val_check_interval"] = 1.0
    config[section][option] = {"val_check_interval": 1.0, "max_steps": -1}.get(option)
    assert effective_batch(config, results) == 128  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trainer", "batch"),
    [
        ({"devices": 4}, 512),
        ({"devices": "4", "num_nodes": 2}, 1024),
        ({"devices": [0, 3]}, 256),
        ({"devices": "auto", "accelerator": "cpu", "limit_train_batches": 2}, 128),
        ({"devices": "auto", "limit_train_batches": 2}, None),
        ({"devices": -1, "limit_train_batches": 0.5}, None),
    ],
)
def test_the_global_batch_as_the_options_have_it(trainer: dict[str, Any], batch: int | None) -> None:
    results, config = as_published()
    config["trainer"] |= trainer
    assert effective_batch(config, results) == batch  # type: ignore[arg-type]


def test_several_reducers_are_all_named() -> None:
    one = {"class_path": "centerclip_pl.tokens.KMedoids", "init_args": {"segments": 6}}
    two = {"class_path": "centerclip_pl.tokens.Spectral", "init_args": {"segments": "${tokens.segments}"}}
    config = {"model": {"reduction": [one, two]}, "tokens": {"segments": 3}}
    assert effective(config, "model.reduction") == ["KMedoids", "Spectral"]
    assert effective(config, "tokens.segments") == [6, 3]


# Figures and tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "difference", "marked"),
    [(43.6, 0.0, False), (44.6, 1.0, False), (44.64, 1.0, False), (44.66, 1.1, True), (42.5, -1.1, True)],
)
def test_recalls_more_than_a_point_away_are_marked(ours: float, difference: float, marked: bool) -> None:
    results, config = as_published()
    results["metrics"]["test/t2v/R@1"] = ours
    comparison = compare(ROW, results, config)  # type: ignore[arg-type]
    assert comparison.difference("t2v/R@1") == difference
    assert comparison.is_marked("t2v/R@1") == marked
    assert ("* a recall" in format_comparison(comparison)) == marked


def cells(text: str, start: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in text.splitlines()]
    return [line[1:] for line in lines if line and line[0] == start]


def test_the_table_has_both_figures_in_each_column() -> None:
    results, config = as_published()
    results["metrics"] |= {"test/t2v/R@1": 41.24, "test/t2v/MnR": 30.0}
    text = format_comparison(compare(ROW, results, config, training_memory_mb=8192))  # type: ignore[arg-type]
    assert "msrvtt-9k, row 4: kmedoids, 4 segments of 49 tokens, ViT-B/32 (CenterCLIP table 3b)" in text
    assert cells(text, "text to video, ours") == [["41.2", "71.4", "81.2", "2.0", "30.0"]]
    assert cells(text, "published")[0] == ["43.6", "71.4", "81.2", "2.0", "15.3"]
    # Ranks are not marked, however far apart.
    assert cells(text, "difference")[0] == ["-2.4*", "+0.0", "+0.0", "+0.0", "+14.7"]
    assert cells(text, "ms a video")[0][:2] == ["11.3", "22.9"]
    assert cells(text, "training, GB of a GPU")[0][:2] == ["8.0", "15.0"]
    assert cells(text, "hardware")[0] == ["NVIDIA A100-SXM4-40GB", "V100"]
    assert "On other hardware" in text


def test_the_same_hardware_is_not_called_other() -> None:
    text = format_comparison(compared(put("results:cost/device", "Tesla V100-SXM2-32GB")))
    assert cells(text, "hardware")[0] == ["Tesla V100-SXM2-32GB", "V100"]
    assert "other hardware" not in text


def test_what_was_not_published_or_not_measured_is_blank() -> None:
    row = TABLES["activitynet"][1]
    results, config = as_published()
    results["cost"] = None
    del results["metrics"]["test/v2t/MdR"]
    text = format_comparison(compare(row, results, config))  # type: ignore[arg-type]
    assert cells(text, "published")[0][2] == cells(text, "difference")[0][2] == ""
    assert cells(text, "video to text, ours")[0][3] == cells(text, "difference")[1][3] == ""
    assert "ms a video" not in text


@pytest.mark.parametrize("table", TABLES)
def test_the_list_has_every_row_whole(table: str) -> None:
    text = format_rows(TABLES[table])
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    for row in TABLES[table]:
        (found,) = cells(text, str(row.number))
        assert found[:2] == [row.method, row.backbone]
        recalls = [row.figures.get(f"{way}/R@{k}") for way in ("t2v", "v2t") for k in (1, 5, 10)]
        assert f"{found[4]} {found[5]}".split() == ["-" if recall is None else str(recall) for recall in recalls]


def test_the_tables_are_listed() -> None:
    text = format_tables(TABLES)
    assert [cells(text, name)[0][1] for name in ("msrvtt-9k", "msvd", "lsmdc", "activitynet")] == ["9", "9", "9", "8"]


def test_results_type_is_what_the_tests_build() -> None:
    results, _ = as_published()
    assert results.keys() <= Results.__annotations__.keys()
