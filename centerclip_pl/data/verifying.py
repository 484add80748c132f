"""Is a dataset what was published, and can all of it be used? Found out once, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from centerclip_pl.data.captions import video_list
from centerclip_pl.data.expected import Expected, expected_counts, holds_out_validation
from centerclip_pl.data.file_manifest import hash_files, keep, known_hashes, manifest_of, relative_path
from centerclip_pl.data.splits import SPLITS
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing
from centerclip_pl.video.check import check_clips
from centerclip_pl.video.decode import MISSING
from centerclip_pl.video.manifest import Clip, VideoCheck, Wanted, write_beside

if TYPE_CHECKING:
    from centerclip_pl.data.datamodule import RetrievalDataModule

_REPORT = "problems.csv"


class Finding(NamedTuple):
    """One thing that is not as it should be; a line of the report."""

    kind: str
    """``missing``, ``broken``, ``count``, ``duplicate`` or ``different``."""
    split: str
    video_id: str
    path: str
    """Below the root, or absolute."""
    detail: str


class SplitCounts(NamedTuple):
    """A split, counted in videos unless it says otherwise."""

    split: str
    expected: Expected
    listed: int
    """In the annotations."""
    missing: int
    broken: int
    texts: int
    protocol: str
    note: str = ""

    @property
    def found(self) -> int:
        """Videos whose file is there, broken or not."""
        return self.listed - self.missing

    @property
    def is_expected(self) -> bool:
        """Whether the annotations list as many videos and texts as are published, where that is known."""
        videos, texts = self.expected
        return videos in (None, self.listed) and texts in (None, self.texts)


class Verification(NamedTuple):
    """All that was found out about a dataset."""

    splits: list[SplitCounts]
    findings: list[Finding]
    """Missing and broken videos and wrong counts, in the order of the splits."""
    duplicates: list[Finding]
    """Videos with the same content as another; those that are in several splits come first."""
    manifest: pd.DataFrame
    manifest_file: Path | None
    """Where it is kept; None where nothing can be written."""
    num_files: int

    @property
    def is_good(self) -> bool:
        """Whether nothing is missing or broken, and all known counts are right."""
        return not self.findings


def verify_dataset(
    data: RetrievalDataModule, *, hash: bool = True, jobs: int | None = None, progress: bool = True
) -> Verification:
    """Open every video of a dataset, decode the first, middle and last frame that evaluation takes, and count.

    What is found out is kept beside the data, also when the user interrupts; files that have not changed are not opened
    again.

    Args:
        data: made from the experiment file and the user's options.
        hash: whether to read each file whole for the SHA-256 of its content.
        jobs: processes, and files read at a time; None: as many as there are processors, at most 16.
        progress: whether to show bars (on a terminal only).

    Raises:
        DataError: the folder or an annotation file is absent or cannot be read.
        ConfigError: the frames come from a cache, so that there are no files to look at; ``jobs`` is not positive.
    """
    if data.cache is not None:
        raise ConfigError(f"cache={data.cache}: verify looks at video files", "leave --data.cache out")
    data.ensure_files()
    tables = data.published()
    if data.select_on_test:
        tables.pop("val", None)  # is the test split
    root = data.prepared or data.root
    clips = {split: _clips(table) for split, table in tables.items()}
    everything = [clip for named in clips.values() for clip in named.values()]
    wanted = Wanted(data.num_frames, data.fps, data.eval_sampling)
    files, problems = check_clips(everything, root, wanted, timeout=data.check_timeout, workers=jobs, progress=progress)
    if hash:
        hashes, unreadable = hash_files(files, root, jobs=jobs, progress=progress)
    else:
        hashes, unreadable = known_hashes(files, root), {}
    problems = {
        clip: f"cannot be read to its end: {unreadable[clip.path]}"
        if problem is None and clip.path in unreadable
        else problem
        for clip, problem in problems.items()
    }
    manifest = manifest_of(files, hashes, root)
    findings: list[Finding] = []
    counts: list[SplitCounts] = []
    expected = _expected(data, tables)
    for split in (name for name in SPLITS if name in tables or name in expected):
        named = clips.get(split, {})
        bad = [(video_id, clip.path, reason) for video_id, clip in named.items() if (reason := problems[clip])]
        missing = sum(reason == MISSING for _, _, reason in bad)
        texts = len(tables[split]) if split in tables else 0
        goal, note = expected.get(split, (Expected(), ""))
        count = SplitCounts(split, goal, len(named), missing, len(bad) - missing, texts, data.protocol(split), note)
        counts.append(count)
        if not count.is_expected:
            findings.append(Finding("count", split, "", "", _count_detail(count)))
        findings += [
            Finding("missing" if reason == MISSING else "broken", split, video_id, relative_path(path, root), reason)
            for video_id, path, reason in bad
        ]
    duplicates = _duplicates(clips, files, hashes, root)
    return Verification(counts, findings, duplicates, manifest, keep(files, hashes, root), len(files))


def write_report(findings: Iterable[Finding], root: str | Path, file: str | Path | None = None) -> Path | None:
    """Write findings as a CSV file with the fields of :class:`Finding` as columns.

    Args:
        findings: none: a file with the names of the columns alone, so that no older report is taken for this one.
        root: the folder of the dataset.
        file: where to; None: ``<root>/.centerclip/problems.csv``, or the user's cache where that cannot be written.

    Returns:
        Where it lies; None where no file was named and neither place can be written.

    Raises:
        DataError: the named file cannot be written; its folder must exist.
    """
    table = pd.DataFrame(list(findings), columns=Finding._fields)
    if file is None:
        return write_beside(root, _REPORT, lambda part: table.to_csv(part, index=False))
    file = Path(file)
    try:
        with replacing(file) as part:
            table.to_csv(part, index=False)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror or error}", "name another file") from error
    return file


def _clips(table: pd.DataFrame) -> dict[str, Clip]:
    """What each video is: a file or a part of one."""
    return {
        video_id: Clip(path, None if pd.isna(start) else float(start), None if pd.isna(end) else float(end))
        for video_id, path, start, end in video_list(table).itertuples(index=False)
    }


def _expected(data: RetrievalDataModule, tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[Expected, str]]:
    """What is expected of each split, and a word about it. Of a split that was parted, what is left of it."""
    expected = {split: (count, "") for split, count in expected_counts(data).items()}
    if holds_out_validation(data) and "train" in expected and "val" in tables:
        videos, texts = expected["train"][0]
        held = tables["val"]
        left = Expected(
            None if videos is None else videos - held["video_id"].nunique(),
            None if texts is None else texts - len(held),
        )
        note = f"as published {videos:,} less those held out" if videos is not None else ""
        expected["train"] = (left, note)
        expected["val"] = (Expected(), "held out of train")
    return expected


def _count_detail(count: SplitCounts) -> str:
    wrong = [
        f"{found:,} {what} in the annotations, {number:,} expected"
        for what, found, number in (
            ("videos", count.listed, count.expected.videos),
            ("texts", count.texts, count.expected.texts),
        )
        if number is not None and number != found
    ]
    return "; ".join(wrong) + (f" ({count.note})" if count.note else "")


def _duplicates(
    clips: Mapping[str, Mapping[str, Clip]],
    files: Mapping[str, VideoCheck],
    hashes: Mapping[str, str],
    root: Path,
) -> list[Finding]:
    """A finding for each video that shows the same part of the same content as another; groups over splits first."""
    groups: dict[Clip, list[tuple[str, str, str]]] = {}
    for split, named in clips.items():
        for video_id, clip in named.items():
            if files[clip.path].problem is None:
                content = clip._replace(path=hashes.get(clip.path, clip.path))
                groups.setdefault(content, []).append((split, video_id, relative_path(clip.path, root)))
    found: list[tuple[bool, list[Finding]]] = []
    for group in groups.values():
        if len(group) < 2:
            continue
        splits = sorted({split for split, _, _ in group})
        where = f" in {' and '.join(splits)}" if len(splits) > 1 else ""
        rows = [
            Finding("duplicate", split, video_id, path, f"the same content{where}: {_others(group, place)}")
            for place, (split, video_id, path) in enumerate(group)
        ]
        found.append((len(splits) > 1, rows))
    found.sort(key=lambda entry: not entry[0])
    return [row for _, rows in found for row in rows]


def _others(group: Sequence[tuple[str, str, str]], place: int, shown: int = 3) -> str:
    """The members of a group but the one at `place`: the first of them, as groups may be large, and how many more."""
    first = [f"{name} ({split})" for k, (split, name, _) in enumerate(group[: shown + 1]) if k != place][:shown]
    more = len(group) - 1 - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")
