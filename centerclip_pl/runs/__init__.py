"""RUN FOLDERS -> ONE TABLE: what the runs of a folder or a W&B project found, with which options, at what cost."""

from centerclip_pl.runs.protocols import one_protocol, split_protocols
from centerclip_pl.runs.ranks import read_run_ranks
from centerclip_pl.runs.table import read_runs

__all__ = ["one_protocol", "read_run_ranks", "read_runs", "split_protocols"]
