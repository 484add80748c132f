"""``data stats``: what a dataset is like, in figures and a picture."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from centerclip_pl.data import RetrievalDataModule
from centerclip_pl.data.options import require_positive, require_writable
from centerclip_pl.data.statistics import SplitSamples, Statistics, cut_share, dataset_statistics, summary
from centerclip_pl.data.statistics_picture import draw_statistics, require_format
from centerclip_pl.data.wording import counted
from centerclip_pl.errors import DataError
from centerclip_pl.files import replacing

_SHOWN = 5


def stats(
    data: RetrievalDataModule, picture: str | None = None, json: str | None = None, jobs: int | None = None
) -> None:
    """Tells how long the videos and captions of a dataset are, how many are cut, and which captions are the same.

    Videos that are missing or broken, and parts of a file that begin after its end, are counted and left out of the
    figures. Files are written into folders that exist.

    Args:
        data: the dataset.
        picture: PNG or SVG file (by its ending) to draw; default: .centerclip/stats.png in the dataset's folder, or
            stats-DATASET.png here where that cannot be written.
        json: JSON file for all figures.
        jobs: processes that open the videos which no earlier check has seen; default: one for each core, at most 16.
    """
    if jobs is not None:
        require_positive(jobs=jobs)
    require_writable(picture=picture, json=json)
    if picture is not None:
        require_format(picture)
    statistics = dataset_statistics(data, jobs=jobs)
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
    for split, samples in statistics.splits.items():
        _print_split(console, split, samples, statistics)
    if statistics.no_tokens is not None:
        step = "name a folder with a saved tokenizer, such as a downloaded backbone: --data.tokenizer=FOLDER"
        console.print(f"no numbers of tokens: {statistics.no_tokens.problem}\n  -> {step}", soft_wrap=True)
    _print_repeats(console, statistics)
    drawn = _draw(statistics, data.prepared or data.root, picture)
    console.print(f"picture: {drawn}", soft_wrap=True)
    if json is not None:
        _write_json(statistics, Path(json))
        console.print(f"figures: {json}", soft_wrap=True)


def _print_split(console: Console, split: str, samples: SplitSamples, statistics: Statistics) -> None:
    lacking = [
        f"{count:,} {kind}" for count, kind in ((samples.missing, "missing"), (samples.broken, "broken")) if count
    ]
    note = f" ({', '.join(lacking)}: not in the figures)" if lacking else ""
    title = f"{split}: {counted(samples.videos, 'video')}{note}, {counted(len(samples.words), 'caption')}"
    hours, gigabytes = samples.durations.sum() / 3600, samples.sizes.sum() / 1e3
    console.print(f"{title}, {hours:,.2f} hours, {gigabytes:,.2f} GB", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for name in ("min", "25 %", "median", "75 %", "max", "mean"):
        table.add_column(name, justify="right")
    rows: list[tuple[str, np.ndarray | None]] = [
        ("duration (s)", samples.durations),
        ("frames a file", samples.num_frames),
        ("frames a second", samples.fps),
        ("size of a file (MB)", samples.sizes),
        ("captions a video", samples.captions_a_video),
        ("words a caption", samples.words),
        ("tokens a caption", samples.tokens),
    ]
    for name, values in rows:
        figures = None if values is None else summary(values)
        if figures is None:
            table.add_row(name, *["-"] * 6)
        else:
            table.add_row(name, *(_number(number) for number in figures.values()))
    console.print(table)
    if samples.pictures:
        shown = ", ".join(f"{size} ({counted(count, 'file')})" for size, count in samples.pictures[:_SHOWN])
        more = f" and {len(samples.pictures) - _SHOWN:,} other sizes" if len(samples.pictures) > _SHOWN else ""
        console.print(f"  pixels: {shown}{more}", soft_wrap=True)
    share = cut_share(samples, statistics.max_words)
    if share is not None:
        console.print(f"  {share:.2f} % of the captions are cut at max_words={statistics.max_words}")
    console.print()


def _print_repeats(console: Console, statistics: Statistics) -> None:
    samples = statistics.splits.get("test")
    if samples is None:
        return
    repeats = samples.repeats
    if repeats.captions == 0:
        console.print("test: no caption belongs to two videos")
    else:
        console.print(
            f"test: {repeats.captions:,} captions belong to two or more of {repeats.videos:,} videos, so that "
            f"text-to-video R@1 can be {repeats.best_recall:.2f} % at most:",
            soft_wrap=True,
        )
        for text, count in repeats.examples[:_SHOWN]:
            console.print(f"  {count:,} videos: {text}", soft_wrap=True)
    cut = repeats.best_recall_cut
    if cut is not None and cut < repeats.best_recall:
        console.print(
            f"test: cut at max_words={statistics.max_words}, more of them are the same: R@1 can be {cut:.2f} % at most",
            soft_wrap=True,
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _draw(statistics: Statistics, root: Path, picture: str | None) -> Path:
    if picture is not None:
        return _draw_to(statistics, Path(picture))
    beside = root / ".centerclip" / "stats.png"
    try:
        beside.parent.mkdir(exist_ok=True)
        return _draw_to(statistics, beside)
    except (DataError, OSError):  # a dataset that may only be read
        return _draw_to(statistics, Path(f"stats-{statistics.dataset}.png"))


def _draw_to(statistics: Statistics, file: Path) -> Path:
    try:
        with replacing(file) as part:
            draw_statistics(statistics, part, file.suffix.lower().removeprefix("."))
    except OSError as error:
        raise DataError(
            f"{file} cannot be written: {error.strerror or error}", "name another file: --picture=FILE.png"
        ) from error
    return file


def _write_json(statistics: Statistics, file: Path) -> None:
    try:
        with replacing(file) as part:
            part.write_text(json_format.dumps(statistics.figures(), indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(
            f"{file} cannot be written: {error.strerror or error}", "name another file: --json=FILE.json"
        ) from error
