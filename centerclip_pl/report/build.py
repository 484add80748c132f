"""A table of runs becomes a page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd

from centerclip_pl import __version__
from centerclip_pl.report.facts import versions_in_words
from centerclip_pl.report.page import Page
from centerclip_pl.report.provenance import read_provenance
from centerclip_pl.report.sections import Options, build_section, heading_of
from centerclip_pl.report.wording import counted, listed
from centerclip_pl.runs import split_protocols

_SHOWN = 10


def build_page(
    runs: pd.DataFrame,
    sources: Sequence[str],
    *,
    options: Options | None = None,
    title: str | None = None,
    where: str | None = None,
    now: datetime | None = None,
) -> Page:
    """Computes the whole report.

    Args:
        runs: of :func:`centerclip_pl.runs.read_runs`, filtered by ``where`` already.
        sources: what was read.
        options: what it is about.
        title: of the page; by default the datasets.
        where: the condition that runs had to meet, for the page to say so.
        now: when it was made; default: the current time.

    Raises:
        ConfigError: a metric that no run has, or a baseline that is several settings.
        DataError: there are no runs.
    """
    options = Options() if options is None else options
    provenance = read_provenance([str(run) for run in runs["run"]])
    parts = split_protocols(runs)
    sections = [
        build_section(f"protocol-{number}", heading_of(part), part, provenance, options)
        for number, part in enumerate(parts.values(), start=1)
    ]
    datasets = listed(sorted(map(str, runs["dataset"].unique())))
    facts = [("Source", ", ".join(sources))]
    if where:
        facts.append(("Only runs with", where))
    facts += [
        ("Runs", f"{counted(len(runs), 'run')} of {counted(len(parts), 'protocol')}"),
        ("Dataset", datasets),
    ]
    versions = versions_in_words([each.versions for each in provenance.values() if each.versions])
    if versions:
        facts.append(("Versions", versions))
    created = (datetime.now(UTC) if now is None else now).astimezone(UTC)
    return Page(
        title=title or f"Text-video retrieval on {datasets}",
        created=f"{created:%d %B %Y, %H:%M} UTC",
        version=__version__,
        facts=facts,
        sections=sections,
        notes=_notes(runs),
    )


def _notes(runs: pd.DataFrame) -> list[str]:
    notes = []
    for key, words in (
        ("skipped", "could not be read and {are} left out"),
        ("unfinished", "{have} options but no results (not finished, or not tested) and {are} left out"),
    ):
        found = [str(each) for each in runs.attrs.get(key) or ()]
        if found:
            one = len(found) == 1
            said = words.format(are="is" if one else "are", have="has" if one else "have")
            more = f"; and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
            notes.append(f"{counted(len(found), 'run')} {said}: {'; '.join(found[:_SHOWN])}{more}.")
    return notes
