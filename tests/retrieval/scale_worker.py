"""What test_scale.py runs in a process of its own: ``python scale_worker.py TEXTS CHANNELS BATCH`` prints JSON.

As many videos as texts. ``beyond``: bytes that the process took at most beyond what it held with the embeddings, which
it keeps, before the metric was made. ``wrong``: of some queries both ways, those with another rank than by their own
row of float64 products; ``checked``: how many these were.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from centerclip_pl import RetrievalMetrics
from centerclip_pl.types import VideoEmbedding


def resident(name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def collected(text: torch.Tensor, videos: torch.Tensor, batch: int) -> RetrievalMetrics:
    metric = RetrievalMetrics()
    for start in range(0, len(text), batch):
        ids = torch.arange(start, min(start + batch, len(text)))
        video = VideoEmbedding(videos[start : start + batch, None], torch.ones(len(ids), 1, dtype=torch.bool))
        metric.update(text=text[start : start + batch], text_ids=ids, video_of_text=ids, video=video, video_ids=ids)
    return metric


def main(size: int, channels: int, batch: int) -> dict[str, int]:
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(50, channels, generator=generator)
    collected(small, small, 50).compute()  # what libraries allocate once
    videos = torch.randn(size, channels, generator=generator)
    text = torch.randn(size, channels, generator=generator).mul_(3).add_(videos)
    videos[size // 2] = videos[size // 2 - 1]

    before = resident("VmRSS")
    metric = collected(text, videos, batch)
    metric.compute()
    beyond = resident("VmHWM") - before

    table, wrong = metric.ranks(), 0
    queries = [0, size // 2 - 1, size // 2, size - 1, *torch.randint(size, (16,), generator=generator).tolist()]
    units = [F.normalize(some.double(), dim=1) for some in (text, videos)]
    for query in queries:
        for mine, others, ranks in ((units[0], units[1], table.t2v), (units[1], units[0], table.v2t)):
            scores = (others @ mine[query]).float()
            own = scores[query]
            rank = 1 + (scores > own).sum() + ((scores == own).sum() - 1) / 2
            wrong += int(rank != ranks[query])
    return {"beyond": beyond, "wrong": wrong, "checked": 2 * len(queries)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(*map(int, sys.argv[1:]))))
