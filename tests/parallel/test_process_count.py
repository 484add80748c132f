"""The result of a training step does not depend on how many processes computed it."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

WORKER = Path(__file__).with_name("gradients_worker.py")
HEADS = ("meanP", "seqLSTM", "seqTransf", "tightTransf")
REDUCERS = (
    "none",
    "kmedoids",
    "kmedoids_mean",
    "spectral",
    "sparse",
    "pooling",
    "temporal_shift",
    "token_shift",
    "two_stages",
    "3d",
)
# Of the whole gradient, and of each parameter's: in float32 the small ones, sums of terms that nearly cancel out, are
# rounded more than that, by the order of the sums alone.
TOLERANCE = {"float64": (1e-12, 1e-12), "float32": (1e-6, 1e-4)}

# Every head with k-medoids, every reducer with meanP.
ON_TWO = [
    *(f"{head}-kmedoids" for head in HEADS),
    *(f"meanP-{name}" for name in REDUCERS if name != "kmedoids"),
    "tightTransf-sparse",
    "meanP-recomputed",
    "meanP-chunks",
    "tightTransf-chunks",
]
ON_FOUR = ["meanP-sparse", "tightTransf-kmedoids", *(f"{head}-uneven" for head in HEADS), "meanP-chunks-uneven"]
SHARDED = ["meanP-kmedoids_mean-sharded", "tightTransf-kmedoids-sharded", "meanP-chunks-sharded"]
IN_FLOAT32 = ["meanP-kmedoids", "tightTransf-sparse"]
ALL = [f"{head}-{name}" for head in HEADS for name in REDUCERS]
NOTHING = {"float64": 1e-12, "float32": 1e-6}

Found = dict[int, list[dict[str, Any]]]


def run(folder: Path, plan: dict[int, list[tuple[str, str]]]) -> Found:
    """What each process found, by the number of processes; `plan`: for this number, cases and dtypes."""
    plan = {1: sorted({case for cases in plan.values() for case in cases}), **plan}
    (folder / "plan.json").write_text(json.dumps(plan))
    paths = [str(WORKER.parents[2]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in plan}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    on_two = [(case, "float64") for case in ON_TWO + SHARDED] + [(case, "float32") for case in IN_FLOAT32]
    on_four = [(case, "float64") for case in ON_FOUR]
    return run(tmp_path_factory.mktemp("processes"), {2: on_two, 4: on_four})


def compare(found: Found, world: int, case: str, dtype: str = "float64") -> None:
    """Loss and gradients of every process with those of one process that had the whole batch."""
    tolerance, for_each = TOLERANCE[dtype]
    alone = found[1][0][f"{case}-{dtype}"]
    longest = max(gradient.norm().item() for gradient in alone["gradients"].values())
    for rank, processes in enumerate(found[world]):
        here, where = processes[f"{case}-{dtype}"], f"{case} in {dtype}, process {rank} of {world}"
        assert here["loss"].item() == pytest.approx(alone["loss"].item(), rel=tolerance), where
        assert list(here["gradients"]) == list(alone["gradients"])
        of_all, difference_of_all = 0.0, 0.0
        for name, expected in alone["gradients"].items():
            gradient: Tensor | None = here["gradients"][name]
            assert gradient is not None, f"{where}: {name} has no gradient"
            size, difference = expected.norm().item(), (gradient - expected).norm().item()
            if size < NOTHING[dtype] * longest:  # nothing but rounding, as of a key's bias in front of a softmax
                size = longest
            assert difference < for_each * size, f"{where}: {name} differs by {difference / size:.1e}"
            of_all, difference_of_all = math.hypot(of_all, size), math.hypot(difference_of_all, difference)
        assert difference_of_all < tolerance * of_all, where


@pytest.mark.parametrize("case", ON_TWO)
def test_a_step_of_two_processes_is_that_of_one(found: Found, case: str) -> None:
    compare(found, 2, case)
    if case in IN_FLOAT32:
        compare(found, 2, case, "float32")


@pytest.mark.parametrize("case", ON_FOUR)
def test_a_step_of_four_processes_is_that_of_one(found: Found, case: str) -> None:
    compare(found, 4, case)


@pytest.mark.parametrize("case", SHARDED)
def test_a_step_of_a_sharded_model_is_that_of_one_process(found: Found, case: str) -> None:
    """FSDP2: gradients, their norm, and the weights behind steps of both optimisers."""
    compare(found, 2, case)
    alone = found[1][0][f"{case}-float64"]
    for processes in found[2]:
        here = processes[f"{case}-float64"]
        assert here["parts"] < 0.6 * alone["parts"]
        assert here["norm"].item() == pytest.approx(alone["norm"].item(), rel=1e-12)
        for name, expected in alone["weights"].items():
            difference = (here["weights"][name] - expected).norm().item()
            assert difference <= 1e-11 * max(expected.norm().item(), 1e-3), name


def test_the_steps_are_worth_comparing(found: Found) -> None:
    """Every parameter that is trained has a gradient, and the cases differ from each other."""
    alone = found[1][0]
    losses = {name: round(step["loss"].item(), 9) for name, step in alone.items() if name.endswith("float64")}
    same_as = {name for name in losses if any(word in name for word in ("uneven", "recomputed", "chunks", "sharded"))}
    assert len({loss for name, loss in losses.items() if name not in same_as}) == len(losses) - len(same_as)
    for name, step in alone.items():
        if name.endswith("float64") and "tightTransf" not in name:
            assert step["gradients"]["logit_scale"].abs() > 1e-6, name
            silent = [key for key, gradient in step["gradients"].items() if gradient.norm() == 0]
            assert not silent, f"{name}: {silent}"


@pytest.mark.soak
def test_every_head_with_every_reducer(tmp_path: Path) -> None:
    cases = [(case, dtype) for case in ALL for dtype in TOLERANCE]
    everything = run(tmp_path, {2: cases, 4: cases})
    for case, dtype in cases:
        compare(everything, 2, case, dtype)
        compare(everything, 4, case, dtype)


def test_the_lists_are_complete() -> None:
    from centerclip_pl.retrieval.heads import HEADS as THEIRS
    from centerclip_pl.tokens import registered_reducers

    assert set(THEIRS) == set(HEADS)
    spec = importlib.util.spec_from_file_location("gradients_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = worker
    spec.loader.exec_module(worker)
    tried = {type(reducer) for make in worker.REDUCERS.values() for reducer in make()}
    ours = {kind for kind in registered_reducers().values() if kind.__module__.startswith("centerclip_pl.")}
    assert ours <= tried
    assert set(ALL) <= set(worker.CASES)
