"""Copies what a study found out of a folder of runs: results, options and ranks, without weights and logs.

    python experiments/studies/export.py runs/study experiments/studies/demo

Paths below the working directory become relative to it, so that the files say nothing about the machine's folders. Of
ranks with one caption a video the captions are left out, two thirds of the file; their videos name the queries.
"""

from __future__ import annotations

import sys
from pathlib import Path

from centerclip_pl.training.ranks_file import FILE_NAME, read_ranks, write_ranks

TEXTS = ("config.yaml", "results.json")


def export(runs: Path, target: Path) -> int:
    """Copies the runs below a folder, with its structure; returns how many."""
    here = f"{Path.cwd()}/"
    found = sorted(file.parent for file in runs.rglob("results.json"))
    for run in found:
        place = target / run.relative_to(runs)
        place.mkdir(parents=True, exist_ok=True)
        for name in TEXTS:
            (place / name).write_text((run / name).read_text(encoding="utf-8").replace(here, ""), encoding="utf-8")
        ranks = read_ranks(run / FILE_NAME)
        if not ranks.duplicated(["direction", "video_id"]).any():
            ranks["caption"] = None
        write_ranks(place / FILE_NAME, ranks)
    return len(found)


if __name__ == "__main__":
    print(f"{export(Path(sys.argv[1]), Path(sys.argv[2]))} runs")
