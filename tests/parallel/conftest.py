"""Commands in several processes, as Lightning, torchrun and SLURM start them."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("cli_conftest", REPOSITORY / "tests/cli/conftest.py")
assert _spec is not None
assert _spec.loader is not None
_cli = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_cli)
tiny_backbone, tiny_demo = _cli.tiny_backbone, _cli.tiny_demo

STARTED = ("SLURM_", "TORCHELASTIC_", "MASTER_", "WANDB_", "CENTERCLIP_", "PL_")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE")


class Finished:
    """What became of a launch: the status and output (both streams) of each command that was started."""

    def __init__(self, statuses: list[int], outputs: list[str], seconds: float) -> None:
        self.statuses, self.outputs, self.seconds = statuses, outputs, seconds

    @property
    def output(self) -> str:
        return "\n".join(self.outputs)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(STARTED) and k not in RANKS}
    paths = [str(REPOSITORY), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "WANDB_MODE": "disabled", "PYTHONPATH": path} | more


def _alone(words: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    return [([sys.executable, "-m", "centerclip_pl", *words], {})]


def _lightning(words: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    return _alone([*words, "--trainer.devices=2"])


def _torchrun(words: list[str], *options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "centerclip_pl", *words]


def _one_node(words: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    meet = f"--master-port={free_port()}"
    return [(_torchrun([*words, "--trainer.devices=2"], "--nproc-per-node=2", meet), {})]


def _two_nodes(words: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    options = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    words = [*words, "--trainer.devices=1", "--trainer.num_nodes=2"]
    return [(_torchrun(words, *options, f"--node-rank={node}"), {}) for node in range(2)]


def _slurm(words: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    job = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1", "STEP_ID": "0"}
    job |= {"NODEID": "0", "NODELIST": "127.0.0.1"}
    port = free_port()
    started = []
    for rank in range(2):
        found = {f"SLURM_{name}": value for name, value in (job | {"PROCID": str(rank), "LOCALID": str(rank)}).items()}
        [(command, _)] = _alone([*words, "--trainer.devices=2"])
        started.append((command, found | {"MASTER_PORT": port}))
    return started


LAUNCHERS: dict[str, Callable[[list[str]], list[tuple[list[str], dict[str, str]]]]] = {
    "alone": _alone,
    "lightning": _lightning,
    "torchrun": _one_node,
    "two nodes": _two_nodes,
    "slurm": _slurm,
}

Launch = Callable[..., Finished]


@pytest.fixture(scope="session")
def launch() -> Launch:
    """``launch(launcher, folder, *words)`` runs ``centerclip WORDS`` in `folder` and waits for all its processes."""

    def run(launcher: str, folder: Path, *words: object, timeout: float = 400, **more: str) -> Finished:
        started, logs = time.monotonic(), []
        processes: list[subprocess.Popen[Any]] = []
        try:
            for index, (command, extra) in enumerate(LAUNCHERS[launcher]([str(word) for word in words])):
                logs.append(folder / f"output-{index}.txt")
                with logs[-1].open("w") as log:
                    env = environment(**extra, **more)
                    processes.append(subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log))
            statuses = [process.wait(max(1.0, started + timeout - time.monotonic())) for process in processes]
        finally:
            for process in processes:
                process.kill()
        return Finished(statuses, [log.read_text() for log in logs], time.monotonic() - started)

    return run


@pytest.fixture(scope="session")
def words(tiny_demo: Path, tiny_backbone: Path) -> list[str]:
    """The options of a tiny training that learns: two epochs of four steps, global batches of 4 videos."""
    experiments = REPOSITORY / "experiments"
    return [
        f"--config={experiments / 'datasets/demo.yaml'}",
        f"--config={experiments / 'methods/kmedoids.yaml'}",
        f"--config={experiments / 'backbones/demo.yaml'}",
        f"--data.root={tiny_demo}",
        "--data.train=16",
        "--data.val=4",
        "--data.test=14",
        "--data.num_workers=0",
        f"--model.backbone={tiny_backbone}",
        "--model.optimizer.learning_rate=1e-3",
        "--model.optimizer.clip_scale=1",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.max_epochs=2",
        "--wandb.enabled=false",
    ]
