"""The result of a training step does not depend on how many processes computed it."""

from __future__ import annotations

import importlib.util
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

# Every head with k-medoids, every reducer with meanP and, where there is something random, all together.
CHOSEN = [
    *(f"{head}-kmedoids" for head in HEADS),
    *(f"meanP-{name}" for name in REDUCERS if name != "kmedoids"),
    "tightTransf-sparse",
    *(f"{head}-uneven" for head in HEADS),
    "meanP-sparse-uneven",
    "meanP-recomputed",
]
ALL = [f"{head}-{name}" for head in HEADS for name in REDUCERS]

Found = dict[int, list[dict[str, Any]]]


def run(folder: Path, names: list[str]) -> Found:
    """What each process found, by the number of processes."""
    paths = [str(WORKER.parents[2]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder), *names],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in (1, 2, 4)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return run(tmp_path_factory.mktemp("processes"), CHOSEN)


def compare(found: Found, case: str) -> None:
    """Loss and gradients of every process with those of one process that had the whole batch."""
    for dtype, (tolerance, for_each) in TOLERANCE.items():
        alone, exact = found[1][0][f"{case}-{dtype}"], found[1][0][f"{case}-float64"]["gradients"]
        longest = max(gradient.norm().item() for gradient in exact.values())
        for world in (2, 4):
            for rank, processes in enumerate(found[world]):
                here, where = processes[f"{case}-{dtype}"], f"{case} in {dtype}, process {rank} of {world}"
                assert here["loss"].item() == pytest.approx(alone["loss"].item(), rel=tolerance), where
                assert list(here["gradients"]) == list(alone["gradients"])
                of_all, difference_of_all = 0.0, 0.0
                for name, expected in alone["gradients"].items():
                    gradient: Tensor | None = here["gradients"][name]
                    assert gradient is not None, f"{where}: {name} has no gradient"
                    size = exact[name].norm().item()
                    if size < 1e-12 * longest:  # nothing but rounding, as of a key's bias in front of a softmax
                        size = longest
                    difference = (gradient - expected).norm().item()
                    assert difference / size < for_each, f"{where}: {name} differs by {difference / size:.1e}"
                    of_all, difference_of_all = math.hypot(of_all, size), math.hypot(difference_of_all, difference)
                assert difference_of_all / of_all < tolerance, where


@pytest.mark.parametrize("case", CHOSEN)
def test_a_step_is_that_of_one_process(found: Found, case: str) -> None:
    compare(found, case)


def test_the_steps_are_worth_comparing(found: Found) -> None:
    """Every parameter that is trained has a gradient, and the cases differ from each other."""
    alone = found[1][0]
    losses = {name: round(step["loss"].item(), 9) for name, step in alone.items() if name.endswith("float64")}
    same_as = {name for name in losses if name.endswith(("-uneven-float64", "-recomputed-float64"))}
    assert len({loss for name, loss in losses.items() if name not in same_as}) == len(losses) - len(same_as)
    for name, step in alone.items():
        if name.endswith("float64") and "tightTransf" not in name:
            assert step["gradients"]["logit_scale"].abs() > 1e-6, name
            silent = [key for key, gradient in step["gradients"].items() if gradient.norm() == 0]
            assert not silent, f"{name}: {silent}"


@pytest.mark.soak
def test_every_head_with_every_reducer(tmp_path: Path) -> None:
    everything = run(tmp_path, ALL)
    for case in ALL:
        compare(everything, case)


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
