"""A few videos to look at: those that a user names, the demo's where it is there, or some of its kind made at once."""

from __future__ import annotations

from pathlib import Path

from centerclip_pl.data.demo.generate import SIDE, write_video
from centerclip_pl.data.demo.render import render_video
from centerclip_pl.data.demo.splits import make_split
from centerclip_pl.errors import DataError

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v")


def example_videos(
    source: str | Path | None, count: int, *, demo: str | Path = "data/demo", scratch: str | Path, seed: int = 0
) -> list[Path]:
    """Files of videos, at most `count`, always the same ones.

    Args:
        source: a video file, or a folder with videos, of which some are taken in equal steps of their sorted names;
            None: test videos of the demo.
        count: how many at most.
        demo: where the demo dataset may lie; where it does not, videos of its kind are written into `scratch`.
        scratch: a folder for these.
        seed: of the videos written.

    Raises:
        DataError: there is no such file or folder, it holds no video, or `count` is below 1.
    """
    if count < 1:
        raise DataError(f"{count} videos were asked for", "ask for at least 1")
    if source is None:
        there = sorted(Path(demo, "videos").glob("test*.mp4"))
        return _some(there, count) if there else _write(count, Path(scratch), seed)
    source = Path(source)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: there is no such file or folder", "name a video, or a folder with videos")
    files = sorted(file for file in source.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{source} holds no video ({', '.join(SUFFIXES)})", "name a folder with videos")
    return _some(files, count)


def _some(files: list[Path], count: int) -> list[Path]:
    if len(files) <= count:
        return files
    return [files[k * len(files) // count] for k in range(count)]


def _write(count: int, folder: Path, seed: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for video in make_split("test", count, seed, distinct=False):
        files.append(folder / f"{video.video_id}.mp4")
        write_video(render_video(video.scene, SIDE), files[-1])
    return files
