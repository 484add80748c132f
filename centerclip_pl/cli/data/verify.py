"""``data verify``: is the dataset what was published, and can all of it be used?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from centerclip_pl.data import RetrievalDataModule
from centerclip_pl.data.expected import counts_step
from centerclip_pl.data.file_manifest import read_manifest, require_table_name, write_manifest
from centerclip_pl.data.manifest_comparison import Comparison, compare
from centerclip_pl.data.options import require_positive, require_writable
from centerclip_pl.data.verifying import Finding, SplitCounts, Verification, verify_dataset, write_report

_SHOWN = 5
_WIDE = 100  # characters of a terminal; in narrower ones the numbers have the table for themselves


def verify(
    data: RetrievalDataModule,
    report: str | None = None,
    manifest: str | None = None,
    against: str | None = None,
    hash: bool = True,
    jobs: int | None = None,
) -> None:
    """Opens every video of a dataset and reports what is missing, broken, or not as many as published.

    Exit status 1 where there is something to report, copies of one file under two names excepted. Files are written
    into folders that exist.

    Args:
        data: the dataset.
        report: CSV file for all that was found; default: .centerclip/problems.csv in the dataset's folder, or the
            user's cache where that cannot be written.
        manifest: CSV or parquet file (by its ending) to write: size, frames, duration and SHA-256 of each video, with
            paths relative to the dataset's folder. One is kept beside the data in any case.
        against: somebody's manifest; the videos that differ from it are reported, and those that are only there.
        hash: whether to read each file whole for its SHA-256, once.
        jobs: files looked at at a time; default: one for each core, at most 16.
    """
    if jobs is not None:
        require_positive(jobs=jobs)
    require_writable(report=report, manifest=manifest)
    for name in (manifest, against):
        if name is not None:
            require_table_name(name)
    theirs = None if against is None else read_manifest(against)  # before what takes long
    found = verify_dataset(data, hash=hash, jobs=jobs)
    comparison = None if theirs is None else compare(found.manifest, theirs)
    root = data.prepared or data.root
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
    _print_splits(console, found.splits)
    _print_findings(console, found)
    differences = [] if comparison is None else _differences(comparison, str(against))
    if comparison is not None:
        _print_comparison(console, comparison, differences, str(against))
    written = write_report([*found.findings, *found.duplicates, *differences], root, report)
    if manifest is not None:
        write_manifest(found.manifest, manifest)
    kept = manifest or found.manifest_file or "can be kept nowhere; name a file: --manifest=FILE"
    console.print(f"manifest: {kept}", soft_wrap=True)
    console.print(f"report: {written or 'can be written nowhere; name a file: --report=FILE'}", soft_wrap=True)
    is_same = comparison is None or not (comparison.differing or comparison.only_there)
    if found.is_good and is_same:
        files = "1 file, which" if found.num_files == 1 else f"{found.num_files:,} files, all"
        console.print(f"{files} can be used")
        return
    kinds = {finding.kind for finding in found.findings}
    steps = [counts_step(data)] * ("count" in kinds) + [data.files_step] * ("missing" in kinds)
    for step in steps:
        console.print(f"  -> {step}", soft_wrap=True)
    raise SystemExit(1)


def _print_splits(console: Console, splits: Sequence[SplitCounts]) -> None:
    words = ("protocol", "") if console.width >= _WIDE else ()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1) if words else 0, pad_edge=bool(words))
    for name in ("split", "expected", "listed", "found", "missing", "broken", "texts", *words):
        table.add_column(name, justify="left" if name in ("split", *words) else "right", overflow="fold")
    for split in splits:
        videos, texts = split.expected
        wrong_texts = texts is not None and texts != split.texts
        table.add_row(
            split.split,
            "unknown" if videos is None else f"{videos:,}",
            *(f"{number:,}" for number in (split.listed, split.found, split.missing, split.broken)),
            f"{split.texts:,}" + (f", not {texts:,}" if wrong_texts else ""),
            *((split.protocol, split.note) if words else ()),
        )
    console.print(table)
    for split in () if words else splits:
        note = f" ({split.note})" if split.note else ""
        console.print(f"  {split.split}: {split.protocol}{note}", soft_wrap=True)


def _print_findings(console: Console, found: Verification) -> None:
    order = ("count", "broken", "missing")
    for kind, group in groupby(sorted(found.findings, key=lambda finding: order.index(finding.kind)), lambda f: f.kind):
        title = {"count": "not as many as expected", "broken": "broken", "missing": "missing"}[kind]
        _print_some(console, title, list(group))
    if found.duplicates:
        title = "warning: the same content under several names; test videos that are trained on make figures too high"
        _print_some(console, title, found.duplicates)


def _print_some(console: Console, title: str, findings: Sequence[Finding]) -> None:
    console.print(f"{title} ({len(findings):,}):", soft_wrap=True)
    for finding in findings[:_SHOWN]:
        name = f"{finding.path} ({finding.split})" if finding.path else finding.split
        console.print(
            f"  {name}: {finding.detail}" if finding.split else f"  {finding.path}: {finding.detail}", soft_wrap=True
        )
    if len(findings) > _SHOWN:
        console.print(f"  ... and {len(findings) - _SHOWN:,} more, see the report")


def _differences(comparison: Comparison, against: str) -> list[Finding]:
    return [
        *(Finding("different", "", "", path, detail) for path, detail in comparison.differing),
        *(Finding("different", "", "", path, f"only in {against}") for path in comparison.only_there),
        *(Finding("different", "", "", path, f"not in {against}") for path in comparison.only_here),
    ]


def _print_comparison(console: Console, comparison: Comparison, differences: Sequence[Finding], against: str) -> None:
    console.print(
        f"against {against}: {comparison.same:,} files are the same, {len(comparison.differing):,} differ, "
        f"{len(comparison.only_there):,} are only there, {len(comparison.only_here):,} only here",
        soft_wrap=True,
    )
    if differences:
        _print_some(console, "differences", differences)
