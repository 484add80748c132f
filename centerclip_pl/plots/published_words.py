"""What runs say about published rows, in tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from centerclip_pl.statistics.against_published import KEYS, Repetition
from centerclip_pl.training.comparison import MARGIN
from centerclip_pl.training.published import PublishedRow

Found = Mapping[tuple[str, int], Sequence[Repetition]]


def verdict_in_words(rows: Sequence[PublishedRow], found: Found, runs: pd.DataFrame) -> list[str]:
    """How many rows were run, how many of them can be compared, and what the runs are where none fits."""
    run = [row for row in rows if found[row.table, row.number]]
    if not run:
        tests = zip(runs["dataset"], runs["protocol"], strict=True)
        places = sorted({f"{dataset} ({protocol})" for dataset, protocol in tests})
        wanted = sorted({row.experiment["dataset"] for row in rows})
        return [
            f"No published row fits these {len(runs)} runs: they are of {', '.join(places)}; published are trained "
            f"settings on {', '.join(wanted)}. Nothing here is a reproduction of a published figure."
        ]
    same = [row for row in run if not found[row.table, row.number][0].reasons]
    sentences = [
        f"{len(run)} of {len(rows)} published rows were run; {len(same) or 'none'} of them as published in all that is "
        "recorded."
    ]
    for row in run:
        first = found[row.table, row.number][0]
        difference = first.difference("t2v/R@1")
        if difference is None:
            continue
        known = not math.isnan(difference.low)
        interval = f" ({difference.low:+.1f} to {difference.high:+.1f} over test videos)" if known else ""
        if first.reasons:
            count = len(first.reasons)
            judged = f"not comparable, for {count} reason{'s' if count > 1 else ''}"
        elif known:
            inside = difference.low <= 0 <= difference.high
            judged = "the published figure lies inside the interval" if inside else "the published figure lies outside"
        else:
            judged = f"{'within' if abs(difference.value) <= MARGIN else 'more than'} {MARGIN:g} point"
        seeds = "one seed" if len(first.runs) == 1 else f"mean of {len(first.runs)} seeds"
        sentences.append(
            f"{row.table}, row {row.number} ({row.name}): text to video R@1 {difference.value:+.1f}{interval}, "
            f"{seeds}; {judged}."
        )
    return sentences


def side_by_side(rows: Sequence[PublishedRow], found: Found) -> pd.DataFrame:
    """Every published row with all its figures, and below it, one line a setting, ours and the difference.

    Returns:
        Text columns: ``row``, ``what`` (the row's name, ``ours (2 seeds)``, ``difference``), each figure of
        `centerclip_pl.statistics.against_published.KEYS`, ``GB`` and ``ms`` of the published row.
    """
    lines: list[dict[str, str]] = []
    for row in rows:
        cost = {"GB": _number(row.memory_gb), "ms": _number(row.ms_per_video)}
        figures = {key: _number(row.figures.get(key)) for key in KEYS}
        here = found[row.table, row.number]
        missing = "" if here else " (not run)"
        lines.append({"row": str(row.number), "what": f"{row.name}{missing}"} | figures | cost)
        for repetition in here:
            count = len(repetition.runs)
            what = f"ours ({count} seeds)" if count > 1 else "ours (one seed)"
            mine = {key: _number(repetition.ours[key].value) for key in KEYS if key in repetition.ours}
            lines.append({"row": "", "what": what} | mine)
            lines.append({"row": "", "what": "difference"} | {key: _difference(repetition, key) for key in KEYS})
    return pd.DataFrame(lines, columns=["row", "what", *KEYS, "GB", "ms"]).fillna("")


def reasons_in_words(rows: Sequence[PublishedRow], found: Found) -> list[str]:
    """Markdown: for every row that was run, what is not as published, and what to know besides."""
    parts = []
    for row in rows:
        for repetition in found[row.table, row.number]:
            lines = [
                f"**{row.table}, row {row.number}: {row.name}** ({', '.join(f'`{run}`' for run in repetition.runs)})"
            ]
            lines += [f"- not as published: {reason}" for reason in repetition.reasons]
            if not repetition.reasons:
                lines.append("- everything that results.json and config.yaml record is as published")
            lines += [f"- note: {note}" for note in repetition.notes]
            parts.append("\n".join([lines[0], "", *lines[1:]]))
    return parts


def not_run(rows: Sequence[PublishedRow], found: Found) -> pd.DataFrame:
    """The rows without a run, each with the command that runs it: ``table``, ``row``, ``name``, ``command``."""
    lines = [
        (row.table, row.number, row.name, f"centerclip reproduce {row.table} --row {row.number}")
        for row in rows
        if not found[row.table, row.number]
    ]
    return pd.DataFrame(lines, columns=["table", "row", "name", "command"])


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1f}"


def _difference(repetition: Repetition, key: str) -> str:
    difference = repetition.difference(key)
    if difference is None:
        return ""
    if math.isnan(difference.low):
        return f"{difference.value:+.1f}"
    return f"{difference.value:+.1f} ({difference.low:+.1f} to {difference.high:+.1f})"
