"""``data download``: fetches what the owners of a dataset offer by a direct link, and says how to get the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from centerclip_pl.errors import DataError

if TYPE_CHECKING:
    from centerclip_pl.data import RetrievalDataModule
    from centerclip_pl.data.download.offers import State
    from centerclip_pl.data.download.sources import Source


def download(
    data: RetrievalDataModule,
    only: Literal["annotations", "videos"] | None = None,
    keep_archives: bool = False,
    dry_run: bool = False,
    timeout: float = 60.0,
) -> None:
    """Fetch what a dataset's owners offer by a direct link, and print the steps for the rest.

    Interrupted at any time, the same command goes on. What is there is left alone.

    Args:
        data: the dataset; files go below its root.
        only: fetch ``annotations`` or ``videos`` alone.
        keep_archives: keep the archives in ROOT/downloads once they are unpacked.
        dry_run: ask the servers for the sizes, print what would be fetched, and fetch nothing.
        timeout: seconds of silence after which a connection is given up and made anew.

    Raises:
        ConfigError: the timeout is not positive.
        DataError: something cannot be had, is damaged or not safe, or does not fit on the disk; the annotation files
            are there and cannot be used.
        SystemExit: with status 1: all was fetched, and videos that the captions name are still not there; with status
            130: interrupted.
    """
    from centerclip_pl.data.download.offers import look
    from centerclip_pl.data.download.sources import PARTS, SOURCES
    from centerclip_pl.data.options import require_positive

    require_positive(timeout=timeout)
    if data.name == "demo":
        print(f"demo: nothing to download; it is generated in {data.root} on first use, or by `centerclip demo-data`")
        return
    if data.name not in SOURCES:
        print(f"{data.name}: nothing to download; the videos and captions are your own")
        return
    parts = PARTS if only is None else (only,)
    state = look(data, parts)
    if state.problem is not None and state.is_damaged:
        raise state.problem
    if not state.absent and not state.steps:
        nothing = "nothing to fetch" if state.other_counts else "all is there"
        print(f"{data.name}: {nothing}{_of_videos(state)}" + ("" if state.other_counts else "; nothing to do"))
        _print_counts(data, state)
        return
    _print_plan(data, state, with_sizes=dry_run)
    if not dry_run and state.absent:
        _fetch_all(data, state.absent, keep_archives, timeout)
        state = look(data, parts)
        if state.problem is not None and not state.steps and "annotations" in parts:
            raise state.problem
    for step in state.steps:
        print(f"\n{step.text.format(root=data.root)}")
    if dry_run:
        return
    if state.videos is not None:
        found, wanted = state.videos
        print(f"\n{data.root}: {found:,} of {wanted:,} videos are there")
        _print_counts(data, state)
        if found < wanted and not state.steps and "videos" in parts:
            print(f"`centerclip data verify {data.name}` lists those that are not")
            sys.exit(1)


def _fetch_all(data: RetrievalDataModule, sources: tuple[Source, ...], keep_archives: bool, timeout: float) -> None:
    from centerclip_pl.data.download.fetching import Patience
    from centerclip_pl.data.download.offers import obtain
    from centerclip_pl.data.wording import counted

    try:
        for source in sources:
            count = obtain(source, data.root, keep_archive=keep_archives, patience=Patience(timeout=timeout))
            print(f"{source.file}: {counted(count, 'file')} in {data.root}")
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _print_plan(data: RetrievalDataModule, state: State, with_sizes: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("what", "", *(["size"] if with_sizes else []), "from"):
        table.add_column(column, no_wrap=True)
    unknown: dict[str, None] = {}
    for source in (*state.there, *state.absent):
        there = source in state.there
        size = [_size(source, unknown)] if with_sizes and not there else [""] if with_sizes else []
        table.add_row(source.part, "is there" if there else "to fetch", *size, source.url)
    if not table.row_count:
        print(f"{data.name}: its owners offer nothing of this by a direct link")
        return
    # Wide enough for whole addresses, which can then be copied; the terminal wraps them.
    console = Console()
    console.width = max(console.width, 160)
    console.print(table)
    for problem in unknown:
        print(f"no size: {problem}")


def _size(source: Source, unknown: dict[str, None]) -> str:
    from centerclip_pl.data.download.fetching import offered_size
    from centerclip_pl.data.download.partial import in_units

    try:
        return in_units(offered_size(source.url))
    except DataError as error:
        unknown[error.problem] = None
        return "unknown"


def _print_counts(data: RetrievalDataModule, state: State) -> None:
    """Says where the annotation files, by which videos are counted, are themselves not as published."""
    if state.other_counts:
        from centerclip_pl.data.expected import counts_step

        print(f"the annotation files list another number of videos: {', '.join(state.other_counts)}")
        print(f"  -> {counts_step(data)}")


def _of_videos(state: State) -> str:
    return "" if state.videos is None else f", {state.videos[0]:,} of {state.videos[1]:,} videos"
