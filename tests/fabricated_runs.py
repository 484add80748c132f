"""Run folders as a training leaves them, without the training: for what reads, compares and draws runs.

The ranks are drawn from a simple model: a query has a difficulty that all runs share, a run has a skill, a seed adds
noise. The metrics of ``results.json`` follow from the ranks, as in a real run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from centerclip_pl.training.cost import Cost
from centerclip_pl.training.ranks_file import write_ranks
from centerclip_pl.training.results import Counts, Selection, make_results, write_results

_REDUCERS = {
    "kmedoids": "KMedoids",
    "spectral": "Spectral",
    "sparse": "SparseSampling",
    "pooling": "SegmentPooling",
    "temporal_shift": "TemporalShift",
    "token_shift": "TokenShift",
    "baseline": None,
}
_TOKENS = {
    "kmedoids": 3,
    "spectral": 3,
    "sparse": 3,
    "pooling": 2,
    "temporal_shift": 0,
    "token_shift": 0,
    "baseline": 0,
}


def write_run(
    folder: str | Path,
    *,
    method: str = "kmedoids",
    segments: int = 4,
    clusters: int = 48,
    after_block: int = 2,
    seed: int = 0,
    dataset: str = "demo",
    protocol: str = "demo-200",
    backbone: str = "demo",
    head: str = "meanP",
    skill: float = 0.7,
    queries: int = 200,
    captions_per_video: int = 1,
    epochs: int = 2,
    gmacs: float | None = None,
    selection: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    created: str | None = None,
    ranks: bool = True,
) -> Path:
    """Writes ``config.yaml``, ``metrics.csv``, ``results.json`` and ``ranks.parquet`` into ``folder``.

    Args:
        folder: the run's folder; made.
        method: a key of ``experiments/methods``; those without tokens options ignore the three numbers.
        skill: in [0, 1]: about the share of queries whose own video comes first.
        queries: videos of the test split; times ``captions_per_video``: its texts.
        gmacs: of a video; by default what segments and clusters suggest.
        selection: fields of `Selection` in place of the default (best on validation).
        options: other options by their name on the command line, ``{"model.optimizer.learning_rate": 1e-3}``.
        created: ISO 8601; by default now.
        ranks: whether to write ``ranks.parquet``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frame = make_ranks(skill, seed, queries, captions_per_video)
    cost_ratio = (
        min(1.0, segments * clusters / 512) if _TOKENS[method] == 3 else segments / 8 if method == "pooling" else 1
    )
    gmacs = 0.23 + 0.23 * cost_ratio if gmacs is None else gmacs
    results = make_results(
        dataset=dataset,
        split="test",
        protocol=protocol,
        selection=Selection(
            **{
                "rule": "best",
                "monitor": "val/t2v/R@1",
                "value": 100 * skill,
                "selected_on": "val",
                "epoch": epochs - 1,
                "step": 31 * epochs,
                "path": str(folder / "checkpoints" / "best.ckpt"),
                **(selection or {}),
            }
        ),
        metrics={f"test/{name}": value for name, value in metrics_of(frame).items()},
        cost=Cost(
            gmacs_per_video=gmacs,
            encode_ms_per_video=30 * gmacs + 0.1 * seed,
            clustering_ms_per_video=2.0 if _TOKENS[method] == 3 else 0.0,
            peak_memory_mb=2000 + 500 * gmacs,
            peak_memory_kind="process resident set",
            batch_size=1,
            frames=8,
            repetitions=5,
            device="cpu",
            dtype="float32",
            threads=2,
        ),
        counts=Counts(
            videos=queries,
            texts=queries * captions_per_video,
            missing_videos=0,
            broken_videos=0,
            published_videos=queries,
            bad_videos=[],
            splits={"test": {"videos": queries, "texts": queries * captions_per_video, "missing": 0, "broken": 0}},
        ),
        seed=seed,
        duration_seconds=90.0 + seed,
        run_dir=folder,
        arguments=["centerclip", "train", "--dataset", dataset],
    )
    if created is not None:
        results["created"] = created
    config = _config(method, segments, clusters, after_block, seed, dataset, backbone, head, epochs, queries)
    for name, value in (options or {}).items():
        _set(config, name, value)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    rows = [f"{epoch},{31 * (epoch + 1)},{100 * skill - 10 / (epoch + 1)}" for epoch in range(epochs)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,step,val/t2v/R@1", *rows]) + "\n")
    if ranks:
        write_ranks(folder / "ranks.parquet", frame)
    write_results(folder / "results.json", results)
    return folder


def make_ranks(skill: float, seed: int, videos: int = 200, captions_per_video: int = 1) -> pd.DataFrame:
    """Ranks in the form of ``ranks.parquet``: text to video, then video to text."""
    shared, own = np.random.default_rng(0), np.random.default_rng([seed, round(1000 * skill)])
    names = [f"video{v:04d}" for v in range(videos)]
    of_video = shared.random(videos)
    frames = []
    for direction, each in (("t2v", captions_per_video), ("v2t", 1)):
        owner = np.repeat(np.arange(videos), each)
        difficulty = np.clip(of_video[owner] + 0.1 * own.standard_normal(len(owner)), 0, 1)
        excess = np.maximum(difficulty - skill, 0)
        rank = 1 + np.ceil(40 * excess).astype(float)
        captions = [f"caption {n} of {names[v]}" if direction == "t2v" else None for n, v in enumerate(owner)]
        frames.append(
            pd.DataFrame(
                {"direction": direction, "video_id": [names[v] for v in owner], "caption": captions, "rank": rank}
            ).astype({"caption": object})
        )
    return pd.concat(frames, ignore_index=True)


def metrics_of(ranks: pd.DataFrame) -> dict[str, float]:
    """The ten metrics, by their names without ``test/``."""
    found = {}
    for direction in ("t2v", "v2t"):
        rank = ranks.loc[ranks["direction"] == direction, "rank"].to_numpy()
        found |= {f"{direction}/R@{k}": float(100 * np.mean(rank <= k)) for k in (1, 5, 10)}
        found |= {f"{direction}/MdR": float(np.median(rank)), f"{direction}/MnR": float(np.mean(rank))}
    return found


def _config(
    method: str,
    segments: int,
    clusters: int,
    after_block: int,
    seed: int,
    dataset: str,
    backbone: str,
    head: str,
    epochs: int,
    queries: int,
) -> dict[str, Any]:
    reducer, numbers = _REDUCERS[method], ("after_block", "segments", "clusters")[: _TOKENS[method]]
    arguments: dict[str, Any] = {name: f"${{tokens.{name}}}" for name in numbers}
    if method == "kmedoids":
        arguments |= {"metric": "euclidean", "p": 2.0, "normalize": False, "aggregation": "medoid"}
    if method == "spectral":
        arguments |= {"graph": "heat", "sigma": 2.0, "neighbours": None}
    return {
        "seed_everything": seed,
        "trainer": {"accelerator": "cpu", "devices": "auto", "num_nodes": 1, "max_epochs": epochs, "max_steps": -1},
        "model": {
            "backbone": f"experiments/backbones/{backbone}",
            "reduction": None
            if reducer is None
            else {"class_path": f"centerclip_pl.tokens.{reducer}", "init_args": arguments},
            "head": head,
            "patch": "2d",
            "segment_mask": "any",
            "optimizer": {"recipe": "centerclip", "learning_rate": 0.0005, "clip_scale": 1.0},
        },
        "data": {
            "class_path": "centerclip_pl.data.Demo",
            "init_args": {
                "root": "data/demo",
                "test": queries,
                "num_frames": 8,
                "batch_size": 64,
                "select_on_test": False,
            },
        },
        "experiment": {"dataset": dataset, "method": method, "backbone": backbone},
        "tokens": {"after_block": after_block, "segments": segments, "clusters": clusters},
        "run_dir": None,
        "wandb": {"enabled": True, "project": "centerclip_pl", "name": None},
        "checkpoint": {"dirpath": None, "monitor": "val/t2v/R@1", "mode": "max"},
        "ckpt_path": None,
    }


def _set(config: dict[str, Any], name: str, value: Any) -> None:
    """As on the command line: ``model.reduction.graph`` and ``data.root`` are arguments of a class."""
    keys = name.split(".")
    if keys[0] == "data" or keys[:2] == ["model", "reduction"]:
        keys.insert(len(keys) - 1, "init_args")
    for key in keys[:-1]:
        config = config.setdefault(key, {})
    config[keys[-1]] = value
