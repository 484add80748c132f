"""What to know before one believes a comparison."""

from __future__ import annotations

import pandas as pd

_FEW_VIDEOS = 50


def notes_of(a: pd.DataFrame, b: pd.DataFrame, *, same_options: bool, identical_ranks: bool) -> list[str]:
    """Sentences about how A and B were trained, chosen and tested.

    Args:
        a: the runs of A, one a seed.
        b: of B.
        same_options: whether A and B are one setting.
        identical_ranks: whether some run of A ranks every query as some run of B does.
    """
    first, sides = a.iloc[0], (("A", a), ("B", b))
    notes = []
    if same_options:
        notes.append("A and B have the same options: what differs is the seed, or the state of the code")
    if identical_ranks:
        notes.append(
            "a run of A and a run of B give every query the same rank: one is a copy of the other, or the option that "
            "differs has no effect"
        )
    single = [side for side, each in sides if len(each) < 2]
    if single:
        have = "has one seed" if len(single) == 1 else "have one seed each"
        notes.append(f"{' and '.join(single)} {have}: nothing is known about other trainings")
    if 1 < min(len(a), len(b)) < 5:
        notes.append(
            f"the spread over seeds is estimated from {len(a)} and {len(b)} of them: roughly; with more the interval "
            "gets narrower"
        )
    notes += _about_selection(a, b)
    notes += [
        f"{side}: the weights are as pretrained, so its seeds are not trainings"
        for side, each in sides
        if len(each) > 1 and (each["selection"] == "zero-shot").all()
    ]
    if str(first["protocol"]).endswith("(partial)"):
        notes.append("the test is partial: some of its batches were left out")
    if first["videos"] < _FEW_VIDEOS:
        notes.append(f"there are {first['videos']:,} test videos only: the intervals are too narrow with so few")
    notes += _about_videos(sides)
    if _differs(a, b, "version"):
        notes.append(f"A and B were tested with other versions of centerclip-pl: {_both(a, b, 'version')}")
    elif _differs(a, b, "commit"):
        notes.append("A and B were tested with other commits of the code")
    return notes


def _about_selection(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    notes = []
    if _differs(a, b, "selection"):
        notes.append(f"the tested weights were chosen by different rules: {_both(a, b, 'selection')}")
    if _differs(a, b, "selected_on"):
        notes.append(f"the tested weights were chosen on different splits: {_both(a, b, 'selected_on')}")
    on_test = [side for side, each in (("A", a), ("B", b)) if (each["selected_on"] == "test").any()]
    if on_test:
        notes.append(
            f"the checkpoint of {' and of '.join(on_test)} was chosen on the test set: the figures are too high, by an "
            "amount that no interval here knows"
        )
    if _differs(a, b, "epochs"):
        notes.append(f"they were not trained for the same number of epochs: {_both(a, b, 'epochs')}")
    return notes


def _about_videos(sides: tuple[tuple[str, pd.DataFrame], ...]) -> list[str]:
    notes = []
    for side, each in sides:
        absent = int(each["missing_videos"].max() + each["broken_videos"].max())
        if absent:
            notes.append(f"{side} was tested without {absent:,} videos of the split that are missing or broken")
    runs = sides[0][1].iloc[0]
    published = runs.get("published_videos")
    if published is not None and not pd.isna(published) and published != runs["videos"]:
        notes.append(f"the test has {runs['videos']:,} videos, the published one {int(published):,}")
    return notes


def _differs(a: pd.DataFrame, b: pd.DataFrame, column: str) -> bool:
    return column in a.columns and column in b.columns and _values(a, column) != _values(b, column)


def _both(a: pd.DataFrame, b: pd.DataFrame, column: str) -> str:
    return "; ".join(f"{side} {', '.join(_values(each, column))}" for side, each in (("A", a), ("B", b)))


def _values(runs: pd.DataFrame, column: str) -> list[str]:
    known = (
        "none" if pd.isna(each) else f"{each:g}" if isinstance(each, float) else str(each) for each in runs[column]
    )
    return sorted(set(known))
