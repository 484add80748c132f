"""RANKS AND RUNS -> HOW SURE: intervals over queries, spread over seeds, paired tests between methods."""

from centerclip_pl.statistics.comparing import compare
from centerclip_pl.statistics.comparison import Comparison, MetricComparison
from centerclip_pl.statistics.cost import CostComparison
from centerclip_pl.statistics.intervals import Interval, query_intervals
from centerclip_pl.statistics.paired import Difference, McNemar, holm
from centerclip_pl.statistics.seeds import Spread, drop_repeated_seeds, over_seeds
from centerclip_pl.statistics.settings import describe_setting, setting_columns, varying_columns
from centerclip_pl.statistics.summary import summarise

__all__ = [
    "Comparison",
    "CostComparison",
    "Difference",
    "Interval",
    "McNemar",
    "MetricComparison",
    "Spread",
    "compare",
    "describe_setting",
    "drop_repeated_seeds",
    "holm",
    "over_seeds",
    "query_intervals",
    "setting_columns",
    "summarise",
    "varying_columns",
]
