"""Ranking a large test set: time against a plain matrix of all scores, and memory where that matrix does not fit.

``python -m benchmarks.evaluation SIZE DEVICE`` ranks SIZE texts and videos in a process of its own, with a peak of its
own, and prints what that took as JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.memory import MEBIBYTE, available_memory
from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import Summary, ratio
from centerclip_pl import RetrievalMetrics
from centerclip_pl.types import VideoEmbedding

CHANNELS = 512
FITS, LARGE = 20_000, 100_000
QUICK_FITS, QUICK_LARGE = 300, 2_000
GIGABYTE = 1000**3
BATCH = 1_000


def at_scale(plan: Plan) -> list[Measured]:
    """Time by that of the plain way, at a size at which all scores fit; memory at a larger one."""
    fits, large = (QUICK_FITS, QUICK_LARGE) if plan.quick else (FITS, LARGE)
    return [_against_plain(fits, plan), _memory(large, plan)]


def embeddings(size: int, device: str) -> tuple[Tensor, Tensor]:
    """Texts and videos, float32 ``[size, 512]`` each; about half of the texts find their video first among 20,000."""
    generator = torch.Generator().manual_seed(0)
    videos = torch.randn(size, CHANNELS, generator=generator)
    texts = torch.randn(size, CHANNELS, generator=generator).mul_(5).add_(videos)
    return texts.to(device), videos.to(device)


def collected(texts: Tensor, videos: Tensor) -> RetrievalMetrics:
    """The metric, given all of them in batches."""
    metric = RetrievalMetrics().to(texts.device)
    ids = torch.arange(len(texts), device=texts.device)
    mask = torch.ones(BATCH, 1, dtype=torch.bool, device=texts.device)
    for some in ids.split(BATCH):
        video = VideoEmbedding(videos[some[0] : some[-1] + 1, None], mask[: len(some)])
        text = texts[some[0] : some[-1] + 1]
        metric.update(text=text, text_ids=some, video_of_text=some, video=video, video_ids=some)
    return metric


def ours(texts: Tensor, videos: Tensor) -> dict[str, float]:
    """Exact figures in blocks."""
    return collected(texts, videos).compute()


@torch.no_grad()
def plain(texts: Tensor, videos: Tensor) -> dict[str, float]:
    """Mean ranks by one float32 matrix of all scores, without a thought for ties."""
    scores = F.normalize(texts, dim=-1) @ F.normalize(videos, dim=-1).mT
    own = scores.diagonal()
    t2v, v2t = 1 + (scores > own[:, None]).sum(1), 1 + (scores > own).sum(0)
    return {"t2v/MnR": t2v.double().cpu().mean().item(), "v2t/MnR": v2t.double().cpu().mean().item()}


def _against_plain(size: int, plan: Plan) -> Measured:
    group, what = "evaluation / plain float32 matrix", f"{size:,} x {size:,}, {CHANNELS} channels"
    needed, available = 3 * 4 * size**2 / MEBIBYTE, available_memory(plan.device)
    if needed > available:
        return Measured(group, what, None, at_most=1.5, detail=f"needs {needed:.0f} MiB, {available:.0f} are left")
    given = embeddings(size, plan.device)
    expected, found = plain(*given), ours(*given)
    for name, rank in expected.items():  # float32 misplaces few queries, by little
        if abs(found[name] - rank) > 0.01 * rank:
            detail = f"{name} is {found[name]}, by the plain matrix {rank}"
            return Measured(group, what, None, at_most=1.5, detail=detail, wrong=True)
    taken, plainly = plan.measure([partial(ours, *given), partial(plain, *given)], share=10, warmup=0)
    return Measured(
        group,
        what,
        ratio(taken, plainly),
        at_most=1.5,
        times_ms={"ours": taken.ms, "plain": plainly.ms},
        detail=f"{taken.median_ms / 1e3:.1f} s / {plainly.median_ms / 1e3:.1f} s, both directions",
    )


def _memory(size: int, plan: Plan) -> Measured:
    command = [sys.executable, "-m", "benchmarks.evaluation", str(size), plan.device]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout.splitlines()[-1])
    beyond, seconds = found["bytes"], found["seconds"]
    return Measured(
        "evaluation: peak memory beyond the embeddings / 1 GB",
        f"{size:,} x {size:,}, {CHANNELS} channels",
        Summary.of([beyond / GIGABYTE]),
        at_most=1.0,
        times_ms={"ours": Summary.of([1e3 * seconds])},
        peaks_mib={"ours": beyond / MEBIBYTE},
        detail=f"{beyond / 1e6:.0f} MB beyond {2 * 4 * size * CHANNELS / 1e6:.0f} MB, exact ranks both ways in "
        f"{seconds:.0f} s; all scores would take {4 * size**2 / GIGABYTE:.2g} GB",
    )


def resident(name: str) -> int:
    """Bytes of this process in memory: now (``VmRSS``) or at most so far (``VmHWM``)."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError("the system does not say how much memory a process takes")
    return 1024 * int(found[1])


def measure_alone(size: int, device: str) -> dict[str, float]:
    """Seconds, and bytes that the process took beyond those before, when it held the embeddings, which it keeps."""
    ours(*embeddings(100, device))  # what libraries allocate once
    given = embeddings(size, device)
    before = resident("VmRSS")
    start = time.perf_counter()
    figures = ours(*given)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": max(0, resident("VmHWM") - before), **figures}


if __name__ == "__main__":
    print(json.dumps(measure_alone(int(sys.argv[1]), sys.argv[2])))
