"""The columns of the table of runs."""

from __future__ import annotations

DIRECTIONS = ("t2v", "v2t")
MEASURES = ("R@1", "R@5", "R@10", "MdR", "MnR")
METRICS = tuple(f"{direction}/{measure}" for direction in DIRECTIONS for measure in MEASURES)
POST_PROCESSINGS = ("dual_softmax", "qb_norm")
"""What columns of figures that depend on other queries begin with: ``dual_softmax/t2v/R@1``."""

SETTING = (
    "dataset",
    "split",
    "protocol",
    "method",
    "backbone",
    "head",
    "after_block",
    "segments",
    "clusters",
    "seed",
    "epochs",
    "selection",
    "selected_on",
)
COST = ("gmacs", "encode_ms", "clustering_ms", "memory_mb")
AFTER_METRICS = (
    *COST,
    "memory_kind",
    "device",
    "dtype",
    "threads",
    "measured_again",
    "videos",
    "texts",
    "missing_videos",
    "broken_videos",
    "published_videos",
    "created",
    "duration_s",
    "commit",
    "version",
)
COLUMNS = ("run", *SETTING, *METRICS, *AFTER_METRICS)
"""What every table has; further metrics stand behind `METRICS`, further options at the end."""


def is_metric(column: str) -> bool:
    """Whether a column holds figures of retrieval."""
    return column.rpartition("/")[2] in MEASURES and "/" in column


def is_transductive(column: str) -> bool:
    """Whether a column's figures come of post-processing and are not to be compared with those of other columns."""
    return is_metric(column) and column.count("/") > 1


def is_recall(column: str) -> bool:
    """Whether more is better, in per cent."""
    return is_metric(column) and column.rpartition("/")[2].startswith("R@")
