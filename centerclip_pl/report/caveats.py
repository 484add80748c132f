"""What has to be said beside the figures, so that nobody takes them for more than they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from centerclip_pl.plots.naming import is_given
from centerclip_pl.report.wording import counted, listed
from centerclip_pl.runs.columns import is_transductive
from centerclip_pl.statistics.settings import MEASURED_ON, describe_setting, varying_columns

_PARTIAL = "(partial)"
DIRTY = "-dirty"
"""Behind a commit whose files had been changed."""


def caveats(runs: pd.DataFrame, summary: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The warnings of a section, the gravest first.

    Args:
        runs: rows of ``read_runs`` of one protocol.
        summary: of them, by :func:`centerclip_pl.statistics.summarise`, with the index 0, 1, ...
        names: what its rows are called.
    """
    checks: tuple[Callable[[pd.DataFrame], str | None], ...] = (
        _chosen_on_test,
        _partial,
        _fewer_videos,
        _not_best,
        _mixed_selection,
        _other_code,
    )
    found = [one_seed(summary, names), *(check(runs) for check in checks), _latency(runs), _transductive(runs)]
    return [text for text in found if text is not None] + _notes(runs, summary, names)


def _notes(runs: pd.DataFrame, summary: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those of `summarise`, with our short names in place of the options."""
    telling = varying_columns(runs)
    long = {describe_setting(row, telling): name for (_, row), name in zip(summary.iterrows(), names, strict=True)}
    notes = []
    for note in summary.attrs.get("notes", ()):
        name = next((each for each in long if note.startswith(f"{each}: ")), "")
        text = note.removeprefix(f"{name}: ")
        notes.append(f"{long[name]}: {text}" if name else text[:1].upper() + text[1:])
    return notes


def marks(run: pd.Series) -> list[str]:
    """What has to be said about one run, in a word or two each."""
    said = []
    if run["selected_on"] == "test":
        said.append("chosen on test")
    elif run["selection"] in ("last", "given", "zero-shot"):
        said.append(str(run["selection"]))
    if _is_partial(run):
        said.append("partial test")
    lacking = _lacking(run)
    if lacking:
        said.append(f"{lacking} videos missing")
    return said


def one_seed(summary: pd.DataFrame, names: Sequence[str]) -> str | None:
    """Which settings were trained once, and what that leaves open."""
    trained = summary["n_seeds"].notna() if "selection" not in summary else summary["selection"] != "zero-shot"
    single = [names[index] for index in summary.index if summary.loc[index, "n_seeds"] == 1 and trained[index]]
    if not single:
        return None
    which = "Every setting has" if len(single) == len(summary) else f"{listed(single, mark='; ')} {_have(single)}"
    return (
        f"{which} one seed only. What another training of the same setting would give cannot be told from it: a "
        "difference holds for these trained models, and may be smaller than that between two seeds."
    )


def overlapping(runs: pd.DataFrame) -> int:
    """How many runs were measured while another was going on: from their ends (``created``) and durations.

    Those that `centerclip cost` has measured again, one at a time, do not count.
    """
    end = pd.to_datetime(runs["created"], utc=True, errors="coerce", format="ISO8601")
    duration = pd.to_timedelta(pd.to_numeric(runs["duration_s"], errors="coerce"), unit="s")
    again = runs["measured_again"].notna() if "measured_again" in runs else pd.Series(False, index=runs.index)
    spans = sorted(
        (begin, stop, alone)
        for begin, stop, alone in zip(end - duration, end, again, strict=True)
        if pd.notna(begin) and pd.notna(stop)
    )
    together: set[int] = set()
    latest = None  # of the spans so far, the one that ends last
    for place, (begin, _, _) in enumerate(spans):
        if latest is not None and begin < spans[latest][1]:
            together |= {latest, place}
        if latest is None or spans[place][1] > spans[latest][1]:
            latest = place
    return sum(not spans[place][2] for place in together)


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _chosen_on_test(runs: pd.DataFrame) -> str | None:
    count = int((runs["selected_on"] == "test").sum())
    if not count:
        return None
    return (
        f"{_of(count, runs)} chose the checkpoint on the test split, as published systems do: "
        f"{'its figures are' if count == 1 else 'their figures are'} optimistic, and not to be compared with figures "
        "of checkpoints chosen on validation."
    )


def _partial(runs: pd.DataFrame) -> str | None:
    count = int(runs.apply(_is_partial, axis=1).sum())
    if not count:
        return None
    return f"{_of(count, runs)} tested a part of the split only: fewer candidates make higher figures."


def _fewer_videos(runs: pd.DataFrame) -> str | None:
    lacking = [number for number in (_lacking(run) for _, run in runs.iterrows()) if number]
    if not lacking:
        return None
    most = max(lacking)
    return (
        f"{_of(len(lacking), runs)} tested without {'up to ' if len(set(lacking)) > 1 else ''}{counted(most, 'video')} "
        "of the published split (missing or broken): with fewer candidates, figures are too high."
    )


def _not_best(runs: pd.DataFrame) -> str | None:
    parts = []
    words = {
        "last": "the weights as training left them",
        "given": "a checkpoint that was named by hand",
        "zero-shot": "weights that were not trained in the run",
    }
    for rule, what in words.items():
        count = int((runs["selection"] == rule).sum())
        if count:
            parts.append(f"{_of(count, runs)} tested {what}")
    return f"{'; '.join(parts)}." if parts else None


def _mixed_selection(runs: pd.DataFrame) -> str | None:
    rules = runs[["selection", "selected_on"]].astype(object)
    rules = rules.where(rules.notna(), None).drop_duplicates()
    if len(rules) < 2:
        return None
    return "The checkpoints were not all chosen in the same way: compare only settings whose choice is the same."


def _other_code(runs: pd.DataFrame) -> str | None:
    commits, versions = runs["commit"].dropna().unique(), runs["version"].dropna().unique()
    parts = []
    if len(versions) > 1:
        parts.append(f"{len(versions)} versions of the package ({listed(sorted(map(str, versions)))})")
    if len(commits) > 1:
        parts.append(f"{len(commits)} states of the code")
    said = [f"The runs were made with {listed(parts)}: a difference may be the code's."] if parts else []
    dirty = int(sum(str(commit).endswith(DIRTY) for commit in runs["commit"].dropna()))
    if dirty:
        said.append(
            f"{_of(dirty, runs)} {'was' if dirty == 1 else 'were'} made with code that had been changed after its "
            "commit: the commit does not give that code back."
        )
    return " ".join(said) or None


def _latency(runs: pd.DataFrame) -> str | None:
    if not runs[["encode_ms", "memory_mb"]].notna().any(axis=None):
        return None
    parts = []
    for column in MEASURED_ON:
        values = sorted(str(value) for value in runs[column].dropna().unique()) if column in runs else []
        if len(values) > 1:
            parts.append(f"{column.replace('_', ' ')} {listed(values)}")
    said = []
    if parts:
        said.append(
            f"Milliseconds and memory were measured under different conditions ({'; '.join(parts)}): compare them only "
            "between runs of the same."
        )
    beside = overlapping(runs)
    if beside:
        said.append(
            f"{_of(beside, runs)} ran at the same time as another; if that was on the same machine, the milliseconds "
            "are too high. GMACs do not depend on it."
        )
    return " ".join(said) or None


def _transductive(runs: pd.DataFrame) -> str | None:
    if not any(is_transductive(name) and runs[name].notna().any() for name in runs.columns):
        return None
    return (
        "Tables marked transductive show figures after post-processing, which uses other queries or a bank of training "
        "queries: they have no place beside figures that use the query alone."
    )


def _is_partial(run: pd.Series) -> bool:
    return _PARTIAL in str(run["protocol"])


def _lacking(run: pd.Series) -> int:
    left_out = sum(int(run[name]) for name in ("missing_videos", "broken_videos") if is_given(run[name]))
    published = run["published_videos"]
    if _is_partial(run) or not is_given(published) or not is_given(run["videos"]):
        return left_out
    return max(left_out, int(published) - int(run["videos"]))


def _of(count: int, runs: pd.DataFrame) -> str:
    if count == len(runs):
        return {1: "The run", 2: "Both runs"}.get(count, f"All {count:,} runs")
    return f"{count:,} of {len(runs):,} runs"
