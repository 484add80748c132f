from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.runs import local, read_run_ranks, read_runs
from centerclip_pl.runs.columns import COLUMNS

WriteRun = Callable[..., Path]


def change(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | fields))


def edit_config(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    edit(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> Path:
    root = tmp_path_factory.mktemp("study")
    for n, (method, segments) in enumerate((("kmedoids", 2), ("kmedoids", 4), ("pooling", 4), ("baseline", 4))):
        for seed in (0, 1):
            folder = root / method / f"{segments}-{seed}"
            write_run(folder, method=method, segments=segments, seed=seed, created=f"2026-01-0{n + 1}T0{seed}:00:00")
    return root


def test_a_row_holds_what_the_files_hold(study: Path) -> None:
    runs = read_runs(study)
    assert tuple(runs.columns) == COLUMNS  # nothing but what has a column of its own differs
    assert len(runs) == 8
    assert runs["created"].is_monotonic_increasing
    for _, row in runs.iterrows():
        results = json.loads(Path(row["run"], "results.json").read_text())
        assert {name: row[name] for name in COLUMNS if f"test/{name}" in results["metrics"]} == {
            name.removeprefix("test/"): value for name, value in results["metrics"].items()
        }
        assert row["gmacs"] == results["cost"]["gmacs_per_video"]
        assert row["encode_ms"] == results["cost"]["encode_ms_per_video"]
        assert row["memory_mb"] == results["cost"]["peak_memory_mb"]
        assert (row["device"], row["dtype"], row["threads"]) == ("cpu", "float32", 2)
        assert (row["videos"], row["texts"], row["published_videos"]) == (200, 200, 200)
        assert (row["seed"], row["duration_s"]) == (results["seed"], results["duration_seconds"])
        assert row["version"] == results["versions"]["centerclip-pl"]
        assert (row["selection"], row["selected_on"], row["epochs"]) == ("best", "val", 2)
    assert runs["commit"].map(lambda name: len(name.removesuffix("-dirty"))).eq(40).all()


def test_options_without_effect_are_missing(study: Path) -> None:
    runs = read_runs(study).drop_duplicates(["method", "segments"]).set_index("method")
    tokens = runs[["after_block", "segments", "clusters"]]
    np.testing.assert_array_equal(tokens.loc["kmedoids"], [[2, 2, 48], [2, 4, 48]])
    np.testing.assert_array_equal(tokens.loc["pooling"].astype(float), [2, 4, np.nan])
    assert tokens.loc["baseline"].isna().all()


def test_whole_numbers_stay_whole_where_all_are_known(study: Path) -> None:
    runs = read_runs(study / "kmedoids")
    assert [runs[name].dtype.kind for name in ("after_block", "segments", "clusters", "seed", "epochs")] == ["i"] * 5
    assert read_runs(study)["segments"].dtype == np.float64


def test_further_options_that_differ_have_a_column(tmp_path: Path, write_run: WriteRun) -> None:
    rate, graph = "model.optimizer.learning_rate", "model.reduction.graph"
    write_run(tmp_path / "a", method="spectral", options={rate: 0.001, "data.num_workers": 3, "run_dir": "elsewhere"})
    write_run(tmp_path / "b", method="spectral", options={graph: "knn", rate: None})
    write_run(tmp_path / "c", method="kmedoids", options={rate: 0.005})
    runs = read_runs(tmp_path).set_index("method")
    assert list(runs.columns[len(COLUMNS) - 1 :]) == [rate, graph]
    # The recipe's own rate is 0.005, whether it was named or not; kmedoids has no graph.
    assert sorted(runs[rate]) == [0.001, 0.005, 0.005]
    assert sorted(runs.loc["spectral", graph]) == ["heat", "knn"]
    assert pd.isna(runs.loc["kmedoids", graph])


def test_seeds_of_one_setting_differ_in_nothing_else(tmp_path: Path, write_run: WriteRun) -> None:
    """What differs between machines and folders makes no setting."""
    for seed, root in enumerate(("/data/a", "/scratch/b")):
        more = {"data.root": root, "data.cache": root, "wandb.name": root, "trainer.accelerator": f"cpu{seed}"}
        write_run(tmp_path / f"{seed}", seed=seed, options=more)
    runs = read_runs(tmp_path)
    assert tuple(runs.columns) == COLUMNS


def test_without_a_config_the_options_are_missing(tmp_path: Path, write_run: WriteRun) -> None:
    (write_run(tmp_path / "a") / "config.yaml").unlink()
    write_run(tmp_path / "b", segments=6)
    runs = read_runs(tmp_path).set_index("run")
    row = runs.loc[str(tmp_path / "a")]
    assert row[["method", "backbone", "head", "after_block", "segments", "clusters", "epochs"]].isna().all()
    assert row["t2v/R@1"] == runs.loc[str(tmp_path / "b"), "t2v/R@1"]


def test_without_experiment_the_reducer_is_the_method(tmp_path: Path, write_run: WriteRun) -> None:
    for name in ("kmedoids", "baseline"):
        run = write_run(tmp_path / name, method=name)
        edit_config(run, lambda config: config.pop("experiment"))
    runs = read_runs(tmp_path)
    assert set(runs["method"]) == {"KMedoids", "baseline"}
    assert set(runs["backbone"]) == {"experiments/backbones/demo"}


def test_several_reducers_are_told_together(tmp_path: Path, write_run: WriteRun) -> None:
    def twice(config: dict[str, Any]) -> None:
        first = config["model"]["reduction"]
        second = {"class_path": "centerclip_pl.tokens.KMedoids", "init_args": first["init_args"] | {"after_block": 4}}
        config["model"]["reduction"] = [{"class_path": "centerclip_pl.tokens.TemporalShift"}, first, second]

    edit_config(write_run(tmp_path / "a"), twice)
    write_run(tmp_path / "b")
    runs = read_runs(tmp_path).set_index("run")
    row = runs.loc[str(tmp_path / "a")]
    assert (row["after_block"], row["segments"], row["clusters"]) == ("[2, 4]", 4, 48)
    # The method is kmedoids twice, but the reducers are not the same.
    assert row["model.reduction"] == '["TemporalShift", "KMedoids", "KMedoids"]'
    assert runs.loc[str(tmp_path / "b"), "model.reduction"] == "KMedoids"


@pytest.mark.parametrize("rule", ["zero-shot", "given"])
def test_options_of_training_say_nothing_of_weights_from_elsewhere(
    tmp_path: Path, write_run: WriteRun, rule: str
) -> None:
    for n, rate in enumerate((0.1, 0.2)):
        path = None if rule == "zero-shot" else f"weights{n}.ckpt"
        options = {"model.optimizer.learning_rate": rate, "trainer.devices": n}
        write_run(tmp_path / f"{n}", selection={"rule": rule, "path": path}, options=options)
    runs = read_runs(tmp_path)
    assert runs["epochs"].isna().all()
    assert "model.optimizer.learning_rate" not in runs.columns
    assert "trainer.devices" not in runs.columns
    assert ("ckpt_path" in runs.columns) == (rule == "given")


def test_a_test_of_another_runs_checkpoint_is_no_training(tmp_path: Path, write_run: WriteRun) -> None:
    trained = write_run(tmp_path / "trained", seed=3)
    for name, path in (("own", "own/checkpoints/best.ckpt"), ("other", trained / "checkpoints" / "best.ckpt")):
        run = write_run(tmp_path / name, selection={"path": str(path)})
        change(run / "results.json", command="python -m centerclip_pl eval --dataset demo", run_dir=name)
    epochs = read_runs(tmp_path).set_index("run")["epochs"]
    assert epochs[str(tmp_path / "trained")] == epochs[str(tmp_path / "own")] == 2
    assert pd.isna(epochs[str(tmp_path / "other")])


def test_figures_of_post_processing_have_columns_of_their_own(tmp_path: Path, write_run: WriteRun) -> None:
    run = write_run(tmp_path / "a")
    plain = read_runs(run)["t2v/R@1"].item()
    change(run / "results.json", transductive={"dual_softmax": {"t2v/R@1": 99.5}, "qb_norm": {"v2t/MdR": 2.0}})
    write_run(tmp_path / "b")
    runs = read_runs(tmp_path).set_index("run")
    row = runs.loc[str(run)]
    assert (row["t2v/R@1"], row["dual_softmax/t2v/R@1"], row["qb_norm/v2t/MdR"]) == (plain, 99.5, 2.0)
    assert runs.loc[str(tmp_path / "b"), ["dual_softmax/t2v/R@1", "qb_norm/v2t/MdR"]].isna().all()


def test_files_of_earlier_versions_and_without_cost(tmp_path: Path, write_run: WriteRun) -> None:
    run = write_run(tmp_path)
    content = json.loads((run / "results.json").read_text())
    del content["counts"]["published_videos"]
    content |= {"cost": None, "commit": None, "seed": None}
    (run / "results.json").write_text(json.dumps(content))
    row = read_runs(tmp_path).iloc[0]
    assert row[["published_videos", "gmacs", "device", "commit", "seed", "threads"]].isna().all()


SPOILT: dict[str, Callable[[Path], Any]] = {
    "cut": lambda run: (run / "results.json").write_bytes((run / "results.json").read_bytes()[:-50]),
    "version": lambda run: change(run / "results.json", schema_version=99),
    "config": lambda run: (run / "config.yaml").write_text("a: [1\nb"),
    "text": lambda run: (run / "config.yaml").write_text("just text"),
    "counts": lambda run: change(run / "results.json", counts={"videos": 3}),
    "rate": lambda run: edit_config(run, lambda config: config["model"]["optimizer"].update(learning_rate=-1)),
    "transductive": lambda run: change(run / "results.json", transductive={"qb_norm": {"t2v/R@1": "high"}}),
    "selection": lambda run: change(run / "results.json", selection=[1, 2]),
}
SAYS = {
    "cut": "not complete JSON",
    "version": "schema version 99",
    "config": "cannot be read",
    "text": "holds no options",
    "counts": "counts in results.json lacks bad_videos",
    "rate": "learning_rate",
    "transductive": "not numbers",
    "selection": "selection in results.json",
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_bad_run_is_named_or_left_out(tmp_path: Path, write_run: WriteRun, name: str) -> None:
    SPOILT[name](write_run(tmp_path / "bad"))
    write_run(tmp_path / "good")
    with pytest.raises(DataError, match=SAYS[name]) as caught:
        read_runs(tmp_path)
    assert "1 of 2 runs" in str(caught.value)
    assert str(tmp_path / "bad") in str(caught.value)
    assert "--on_bad_run=skip" in str(caught.value)
    runs = read_runs(tmp_path, on_bad="skip")
    assert runs["run"].tolist() == [str(tmp_path / "good")]
    (skipped,) = runs.attrs["skipped"]
    assert str(tmp_path / "bad") in skipped
    assert SAYS[name] in skipped


def test_all_bad_runs_are_counted_and_ten_named(tmp_path: Path, write_run: WriteRun) -> None:
    run = write_run(tmp_path / "00", ranks=False)
    SPOILT["cut"](run)
    for n in range(1, 12):
        (tmp_path / f"{n:02}").mkdir()
        (tmp_path / f"{n:02}" / "results.json").write_text("{")
    with pytest.raises(DataError) as caught:
        read_runs(tmp_path)
    assert "12 of 12 runs" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert f"{tmp_path}/09/" in str(caught.value)
    assert f"{tmp_path}/10/" not in str(caught.value)
    with pytest.raises(DataError, match="12 that cannot be read were left out"):
        read_runs(tmp_path, on_bad="skip")


def test_a_folder_without_results_names_unfinished_runs(tmp_path: Path, write_run: WriteRun) -> None:
    for name in ("one", "two"):
        (write_run(tmp_path / name) / "results.json").unlink()
    with pytest.raises(DataError) as caught:
        read_runs(tmp_path)
    said = str(caught.value)
    assert f"no results.json in {tmp_path} or below" in said
    assert f"2 unfinished runs, with options and without results: {tmp_path}/one, {tmp_path}/two" in said
    assert "when a test has ended" in said
    write_run(tmp_path / "three")
    assert read_runs(tmp_path).attrs["unfinished"] == [f"{tmp_path}/one", f"{tmp_path}/two"]


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        read_runs(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"notes\.txt is neither a folder nor"):
        read_runs(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="in no folder"):
        read_runs([])
    with pytest.raises(ConfigError, match="on_bad_run is 'ignore'"):
        read_runs(tmp_path, on_bad="ignore")  # type: ignore[arg-type]


def test_a_run_found_twice_counts_once(study: Path, tmp_path: Path) -> None:
    whole = read_runs(study)
    (tmp_path / "link").symlink_to(study)
    file = study / "pooling" / "4-0" / "results.json"
    again = read_runs([study, study / "kmedoids", file, tmp_path])
    pd.testing.assert_frame_equal(whole, again)
    assert read_runs(file)["method"].tolist() == ["pooling"]
    assert len(read_runs(tmp_path)) == 8  # through the link


def test_folders_that_lead_back_and_foreign_files(tmp_path: Path, write_run: WriteRun) -> None:
    run = write_run(tmp_path / "run")
    (run / "up").symlink_to(tmp_path)
    (run / "wandb" / "files").mkdir(parents=True)
    (run / "wandb" / "files" / "config.yaml").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "results.json").write_text("{")
    runs = read_runs(tmp_path)
    assert runs["run"].tolist() == [str(run)]
    assert runs.attrs == {"skipped": [], "unfinished": []}


def test_ranks_of_a_run(study: Path, tmp_path: Path) -> None:
    runs = read_runs(study)
    ranks = read_run_ranks(runs["run"][0])
    t2v = ranks.loc[ranks["direction"] == "t2v", "rank"]
    assert 100 * np.mean(t2v <= 1) == pytest.approx(runs["t2v/R@1"][0])
    with pytest.raises(DataError, match=r"ranks\.parquet: there is no such file"):
        read_run_ranks(tmp_path)


def test_options_are_parsed_by_libyaml_where_it_is_there() -> None:
    """Without it a thousand runs take 20 s."""
    if not yaml.__with_libyaml__:
        pytest.skip("this PyYAML was built without libyaml")
    assert issubclass(local._LOADER, yaml.CSafeLoader)


def test_local_runs_need_no_heavy_library(study: Path) -> None:
    program = """
import sys
from centerclip_pl.runs import one_protocol, read_run_ranks, read_runs
from centerclip_pl.runs.filtering import select
from centerclip_pl.runs.listing import listing
from centerclip_pl.runs.rendering import as_text
runs = select(read_runs(sys.argv[1]), "segments > 1")
assert as_text(listing(runs, one_protocol(runs)))
assert len(read_run_ranks(runs["run"][0]))
heavy = {"torch", "lightning", "wandb", "matplotlib", "transformers", "torchmetrics", "jsonargparse"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program, study], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
