"""Predicted peaks against those of real steps on a CPU, whose every allocation torch's profiler records."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPConfig

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import KMedoids, SegmentPooling, SparseSampling, Spectral, TemporalShift, TokenShift
from centerclip_pl.training.memory import PARTS, Training, clip_config, fake_batch, precision_name, predict
from centerclip_pl.training.memory.step import PRECISIONS
from centerclip_pl.training.optim import OptimizerOptions

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.memory import MEBIBYTE, peak_memory

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")

SEGMENTS = {"after_block": 1, "segments": 2}
EARLY = {"after_block": 0, "segments": 1, "clusters": 20}
"""Many tokens at once: the peak is at the clustering."""


def small(width: int = 64, blocks: int = 2) -> CLIPConfig:
    tower = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": blocks}
    ends = {"bos_token_id": 998, "eos_token_id": 999}
    return CLIPConfig(
        vision_config=tower | {"num_attention_heads": 2, "patch_size": 16, "image_size": 96},
        text_config=tower | {"num_attention_heads": 2, "vocab_size": 1000} | ends,
        projection_dim=width,
    )


def training(**options: Any) -> Training:
    return Training(small(), **({"batch_size": 6, "frames": 8, "words": 24, "on_cpu": True} | options))


def measured(given: Training) -> float:
    """Bytes at the peak of two steps in a row beyond weights, the optimiser's state and the batch."""
    dtype, autocast = PRECISIONS[given.precision]
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        module = given.module()
        optimizer: Any = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
        batch = fake_batch(given)
        batch["frames"].random_(0, 256)
        batch["input_ids"].random_(1, 900)

        def step() -> None:
            for turn in range(given.accumulate):
                with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
                    loss = module.batch_loss(batch)
                if turn == 0:  # as Lightning has it: between forward and backward
                    optimizer.zero_grad()
                loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()

        def two() -> None:
            step()
            step()

        step()
        optimizer.zero_grad()
        return peak_memory(two) * MEBIBYTE
    finally:
        torch.set_default_dtype(default)


CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "kmedoids": {"model": {"reduction": [(KMedoids, SEGMENTS | {"clusters": 20})]}},
    "kmedoids at the peak": {"model": {"reduction": [(KMedoids, EARLY)]}, "frames": 16},
    "spectral": {"model": {"reduction": [(Spectral, SEGMENTS | {"clusters": 20})]}},
    "sparse": {"model": {"reduction": [(SparseSampling, SEGMENTS | {"clusters": 20})]}},
    "pooling": {"model": {"reduction": [(SegmentPooling, SEGMENTS)]}},
    "seqLSTM": {"model": {"head": "seqLSTM"}},
    "seqTransf": {"model": {"head": "seqTransf"}},
    "tightTransf": {"model": {"head": "tightTransf"}},
    "gradient checkpointing": {"model": {"gradient_checkpointing": True}},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "grad cache": {"model": {"grad_cache": 2}, "batch_size": 10},
    "BertAdam": {"model": {"optimizer": OptimizerOptions("clip4clip")}, "batch_size": 2},
}
MORE: dict[str, dict[str, Any]] = {
    "mean of clusters": {"model": {"reduction": [(KMedoids, SEGMENTS | {"clusters": 20, "aggregation": "mean"})]}},
    "cosine": {"model": {"reduction": [(KMedoids, EARLY | {"metric": "cosine"})]}, "frames": 16},
    "spectral at the peak": {"model": {"reduction": [(Spectral, EARLY)]}, "frames": 16},
    "knn graph": {"model": {"reduction": [(Spectral, EARLY | {"graph": "knn"})]}, "frames": 16},
    "temporal shift": {"model": {"reduction": [(TemporalShift, {})]}},
    "token shift": {"model": {"reduction": [(TokenShift, {})]}},
    "3D patches": {"model": {"patch": "3d"}},
    "frozen": {"model": {"freeze_layers": 1}},
    "eager": {"model": {"attention": "eager"}},
    "bf16-true": {"precision": "bf16-true"},
    "accumulated": {"accumulate": 2},
    "bf16, recomputing": {"precision": "bf16-mixed", "model": {"gradient_checkpointing": True}},
    "grad cache, pairs": {"model": {"grad_cache": 4, "head": "tightTransf"}, "batch_size": 12},
    "grad cache, recomputing": {"model": {"grad_cache": 3, "gradient_checkpointing": True}, "batch_size": 10},
    "grad cache, kmedoids": {
        "model": {"grad_cache": 2, "reduction": [(KMedoids, SEGMENTS | {"clusters": 20})]},
        "batch_size": 9,
    },
}


def compare(options: dict[str, Any]) -> None:
    given = training(**options)
    found = predict(given)
    beyond = found.peak - found.parts["weights"] - found.parts["optimizer state"] - found.parts["inputs"]
    assert beyond > 2 * MEBIBYTE
    assert beyond == pytest.approx(measured(given), rel=0.05)  # 15 % are promised, 2 % were found


QUICK = ("none", "kmedoids", "gradient checkpointing", "grad cache")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in CASES]
)
def test_the_peak_is_that_of_a_real_step(name: str) -> None:
    compare(CASES[name])


@pytest.mark.soak
@pytest.mark.parametrize("name", MORE)
def test_and_of_other_settings(name: str) -> None:
    compare(MORE[name])


def test_the_parts_are_what_they_are_called() -> None:
    given = training(batch_size=1)
    module = given.module()
    size = sum(4 * parameter.numel() for parameter in module.parameters())
    parts = predict(given).parts
    assert tuple(parts) == PARTS
    assert parts["weights"] == pytest.approx(size, rel=0.01)  # and buffers
    assert parts["gradients"] == size
    assert parts["optimizer state"] == 2 * size
    assert 8 * 3 * 96 * 96 <= parts["inputs"] <= 8 * 3 * 96 * 96 + 1000
    assert parts["communication"] == parts["clustering"] == 0
    several = predict(replace(given, processes=4)).parts
    assert several["communication"] >= size  # DDP's buckets
    assert predict(replace(given, processes=4, bucket_view=True)).parts["communication"] < size / 100
    frozen = predict(training(batch_size=1, model={"freeze_layers": 2})).parts
    assert frozen["weights"] == parts["weights"]
    assert 2 * frozen["gradients"] == frozen["optimizer state"] < size


def test_distances_are_counted_where_they_make_the_peak() -> None:
    """All frames in one segment: the mask of equal clusters, masked distances, and the distances themselves."""
    found = predict(training(**CASES["kmedoids at the peak"])).parts
    tokens = 16 * 36
    assert found["clustering"] > 2 * 6 * tokens**2 * 4


def test_a_gpu_updates_all_parameters_together() -> None:
    one = training(batch_size=1, model={"gradient_checkpointing": True, "freeze_layers": None})
    on_cpu, on_gpu = predict(one), predict(replace(one, on_cpu=False))
    assert on_gpu.parts["temporaries"] >= on_cpu.parts["temporaries"]
    assert on_gpu.peak % 512 == 0


def test_nothing_of_the_package_is_changed_for_good() -> None:
    """Stand-ins end with the prediction, also one that fails."""
    from centerclip_pl.retrieval import gather
    from centerclip_pl.training import module

    before = gather.dist, module.embed_in_chunks, torch.get_default_dtype(), torch.get_rng_state()
    with pytest.raises(ConfigError, match="captions have 100 tokens"):
        predict(training(words=100, precision="bf16-true"))
    assert (gather.dist, module.embed_in_chunks, torch.get_default_dtype()) == before[:3]
    assert torch.equal(torch.get_rng_state(), before[3])


def test_precisions() -> None:
    assert [precision_name(value) for value in (None, 32, "16", "bf16", "bf16-true")] == [
        "32-true",
        "32-true",
        "16-mixed",
        "bf16-mixed",
        "bf16-true",
    ]
    with pytest.raises(ConfigError, match="transformer-engine"):
        precision_name("transformer-engine")


@pytest.mark.soak
def test_known_sizes_are_openai_s() -> None:
    """Parameters of the published models."""
    found = predict(Training(clip_config("openai/clip-vit-base-patch32"), batch_size=1, on_cpu=True))
    assert found.parts["weights"] == pytest.approx(4 * 151_277_313, rel=1e-4)
