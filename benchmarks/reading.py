"""From file to uint8 batch, in one process on one core: our readers against reading the whole file; and what is left of
it in a training step."""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.plan import Plan
from benchmarks.report import Measured
from benchmarks.timing import Summary, Times, ratio
from benchmarks.videos import read_whole, write_raw
from centerclip_pl.data.captions import caption_table
from centerclip_pl.data.frame_cache import FrameCache
from centerclip_pl.data.frame_cache.layout import CacheSettings
from centerclip_pl.data.frame_cache.writing import write_cache
from centerclip_pl.data.frames import CacheReader, FileReader, FrameReader
from centerclip_pl.video.decode import decode
from centerclip_pl.video.sampling import uniform_indices
from centerclip_pl.video.transcode import Settings, transcode

FRAMES, SIZE = 12, 224
CLIPS, SECONDS = 6, 20.0
QUICK_CLIPS, QUICK_SECONDS = 1, 6.0
_TOLERANCE = 2.0  # grey levels, mean: decoders and the scaling of colours differ by rounding

Read = Callable[[], list[Tensor]]


def against_whole(plan: Plan) -> list[Measured]:
    """How many times as many clips a second as by decoding the whole file with PyAV and picking frames."""
    count, seconds = (QUICK_CLIPS, QUICK_SECONDS) if plan.quick else (CLIPS, SECONDS)
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        root = Path(folder)
        raw = [write_raw(root / f"raw{k}.mp4", seconds, seed=k) for k in range(count)]
        prepared = [root / f"prepared{k}.mp4" for k in range(count)]
        for source, target in zip(raw, prepared, strict=True):
            transcode(source, target, Settings())
        table = _table(prepared)
        settings = CacheSettings(dataset="benchmark", image_size=SIZE, fps=None, encoding="raw", decoder="pyav")
        write_cache({"test": table}, root, root / "cache", settings, jobs=1)
        cases: list[tuple[str, FrameReader, list[Path], float]] = [
            (f"raw 320x240, 25 fps, {seconds:g} s", FileReader(_table(raw), SIZE), raw, 1.3),
            ("prepared, 3 fps", FileReader(table, SIZE), prepared, 2.0),
            ("cache of the prepared", CacheReader(table, FrameCache(root / "cache")), prepared, 6.0),
        ]
        return [entry for case in cases for entry in _compare(plan, *case)]


def _compare(plan: Plan, what: str, reader: FrameReader, files: Sequence[Path], bound: float) -> list[Measured]:
    wholes = [partial(_read_whole, files, convert_all) for convert_all in (False, True)]
    ours = partial(_read_ours, reader, len(files))
    differences = [
        float((one.float() - other.float()).abs().mean())
        for whole in wholes
        for one, other in zip(ours(), whole(), strict=True)
    ]
    mine, *theirs = plan.measure([ours, *wholes], share=3)
    return [
        Measured(
            f"reading whole with PyAV / {what}",
            f"12 frames, {converted}",
            ratio(taken, mine),
            at_least=None if plan.quick else bound,
            times_ms={"whole": taken.ms, "ours": mine.ms},
            detail=f"{_rate(mine, len(files))} / {_rate(taken, len(files))} clips a second",
            wrong=max(differences) > _TOLERANCE,
        )
        for converted, taken in zip(("only these in RGB", "every one in RGB"), theirs, strict=True)
    ]


def waiting(plan: Plan) -> list[Measured]:
    """The share of a demo training step in which there is no batch: a run of the command line, with one worker."""
    train = 64 if plan.quick else 1280
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "centerclip_pl", "train", "--dataset", "demo", "--wandb.enabled=false"),
            *("--data.val=2", "--data.test=14", f"--data.train={train}", "--trainer.max_epochs=1"),
            *(f"--data.root={folder}/demo", f"--run_dir={folder}/run", "--trainer.enable_progress_bar=false"),
            *(f"--trainer.accelerator={'gpu' if plan.device.startswith('cuda') else 'cpu'}", "--data.num_workers=1"),
            "--trainer.log_every_n_steps=1",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the training failed: {done.stderr[-2000:]}")
        with (Path(folder) / "run" / "metrics.csv").open(newline="") as file:
            shares = [
                float(row["train/data_wait_share"]) for row in csv.DictReader(file) if row["train/data_wait_share"]
            ]
    # Means over up to 20 steps each; the first ones hold the start of the worker.
    settled = shares[len(shares) // 2 :]
    return [
        Measured(
            "demo training step: waiting for data / whole step",
            "1 worker",
            Summary.of(settled),
            detail=f"median of the last {len(settled)} of {len(shares)} steps: {statistics.median(settled):.1%}",
        )
    ]


def _table(files: Sequence[Path]) -> pd.DataFrame:
    return caption_table(
        ({"video_id": file.stem, "path": str(file), "caption": "a clip"} for file in files), "benchmark"
    )


def _read_ours(reader: FrameReader, count: int) -> list[Tensor]:
    return [reader(video, lambda available: uniform_indices(available, FRAMES)) for video in range(count)]


def _read_whole(files: Sequence[Path], convert_all: bool) -> list[Tensor]:
    # How many frames there are is known here, as a gift: counting them would be another pass.
    return [read_whole(file, uniform_indices(_length(file), FRAMES), SIZE, convert_all) for file in files]


_lengths: dict[Path, int] = {}


def _length(file: Path) -> int:
    if file not in _lengths:
        _lengths[file] = decode(file, lambda available: [0]).info.num_frames
    return _lengths[file]


def _rate(times: Times, clips: int) -> str:
    return f"{1e3 * clips / times.median_ms:.1f}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a loader's process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
