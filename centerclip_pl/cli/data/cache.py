"""``centerclip data cache``: decoded frames, written once for all runs."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    from centerclip_pl.data import RetrievalDataModule
    from centerclip_pl.data.frame_cache.writing import Plan

_SHOWN = 10


def cache(
    data: RetrievalDataModule,
    out: str,
    encoding: Literal["raw", "jpeg"] = "raw",
    fps: float | None = None,
    splits: list[str] | str | None = None,
    size_mb: int = 256,
    jobs: int | None = None,
    verify: bool = False,
) -> None:
    """Write the decoded, resized and cropped frames of every video once; runs read them with --data.cache=FOLDER.

    Can be interrupted at any time: the same command goes on where it stopped. docs/frame-cache.md says more.

    Args:
        data: the dataset.
        out: folder of the cache; a new one, or one that was begun with the same settings.
        encoding: "raw" keeps the pixels as they are; "jpeg" (quality 95) takes about a sixth of the room, and differs
            by a few grey levels.
        fps: frames a second to keep; as --data.fps, which runs must then have too. Without: every frame of the files.
        splits: the splits to write, e.g. [train,test]; without: all. Those written before stay.
        size_mb: megabytes a shard.
        jobs: processes that decode; without: as many as there are processors.
        verify: read all frames that are there, and write the clips anew whose frames are damaged.
    """
    from rich.console import Console
    from rich.table import Table

    from centerclip_pl.data.frame_cache.layout import CacheSettings
    from centerclip_pl.data.frame_cache.writing import write_cache
    from centerclip_pl.data.prepared_index import prepared_with
    from centerclip_pl.data.unwritable import shown_bytes
    from centerclip_pl.video.decode import check_decoder

    if data.cache is not None:
        raise ConfigError(f"cache={data.cache}: a cache is written from video files", "leave --data.cache out")
    if fps is not None and data.fps is not None and fps != data.fps:
        raise ConfigError(f"fps={fps:g} and data.fps={data.fps:g} differ", "leave one of them out")
    fps = data.fps if fps is None else fps
    if fps is not None and fps <= 0:
        raise ConfigError(f"fps={fps:g}: must be positive", "leave it out for every frame of the files, or use e.g. 3")
    check_decoder(data.decoder)
    data.ensure_files()
    tables = data.published()
    chosen = _chosen(splits, list(tables), data.name)
    source = "published" if data.prepared is None else f"prepared with {prepared_with(data.prepared)}"
    console = Console(soft_wrap=True, highlight=False)

    def announce(plan: Plan) -> None:
        if plan.todo:
            about = "" if encoding == "raw" else "about "
            console.print(
                f"{plan.todo:,} of {plan.clips:,} clips are to be written: about {plan.frames:,} frames, "
                f"{about}{shown_bytes(plan.size)} ({shown_bytes(plan.free)} are free)"
            )

    written = write_cache(
        {split: table for split, table in tables.items() if split in chosen},
        data.prepared or data.root,
        Path(out),
        CacheSettings(data.name, data.image_size, fps, encoding, data.decoder, source),
        check_timeout=data.check_timeout,
        on_bad_video=data.on_bad_video,
        layout=data.files_step,
        size_mb=size_mb,
        jobs=jobs,
        verify=verify,
        announce=announce,
    )
    table = Table("clips", "new", "frames", "size", "without frames", title=f"{out}: complete")
    good = written.clips - len(written.bad)
    counts = [f"{number:,}" for number in (good, written.new, written.frames, len(written.bad))]
    table.add_row(*counts[:3], shown_bytes(written.size), counts[3])
    console.print(table)
    for video in written.bad[:_SHOWN]:
        named = dict.fromkeys((video["video_id"], video["path"], video["reason"]))  # an id may be the path itself
        console.print(": ".join(named), markup=False)
    if len(written.bad) > _SHOWN:
        console.print(f"... and {len(written.bad) - _SHOWN:,} more, listed in the cache's table of clips")
    rate = "" if fps is None else f" --data.fps={fps:g}"
    console.print(f"use it: --data.cache={out}{rate}", markup=False)


def _chosen(splits: list[str] | str | None, known: list[str], dataset: str) -> list[str]:
    """The splits that are to be written."""
    if splits is None:
        return known
    if isinstance(splits, str):
        raise ConfigError(f"splits={splits}: must be a list", f"use --splits=[{splits}]")
    listed = ", ".join(known)
    if not splits:
        raise ConfigError("splits=[]: names no split", f"leave it out for all, or name some of {listed}")
    for split in splits:
        if split not in known:
            near = get_close_matches(split, known, n=1)
            step = f"did you mean {near[0]}?" if near else "name some of them"
            raise ConfigError(f"splits: there is no {split!r}; {dataset} has {listed}", step)
    return splits
