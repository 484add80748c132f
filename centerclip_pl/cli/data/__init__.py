"""``centerclip data``: what is done to a dataset before anything is trained on it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from difflib import get_close_matches

from centerclip_pl.errors import ConfigError

ACTIONS: dict[str, tuple[str, str]] = {
    "download": ("centerclip_pl.cli.data.download:download", "fetch what the owners offer by a direct link"),
    "prepare": ("centerclip_pl.cli.data.prepare:prepare", "transcode the videos to a small size, for fast reading"),
    "verify": ("centerclip_pl.cli.data.verify:verify", "open every video; report what is missing or broken"),
    "stats": ("centerclip_pl.cli.data.stats:stats", "durations and captions in figures and a picture"),
    "cache": ("centerclip_pl.cli.data.cache:cache", "write the decoded frames once, for all runs"),
}


def data_command(words: list[str]) -> None:
    """Runs ``data ACTION DATASET ...``.

    Raises:
        ConfigError: there is no such action or dataset.
    """
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    action, *rest = words
    if action not in ACTIONS:
        near = get_close_matches(action, ACTIONS, n=1)
        hint = f"did you mean `data {near[0]}`?" if near else f"there are {', '.join(ACTIONS)}"
        raise ConfigError(f"there is no command `data {action}`", hint)
    from centerclip_pl.cli.data.options import run_on_dataset

    module, _, name = ACTIONS[action][0].partition(":")
    function: Callable[..., None] = getattr(importlib.import_module(module), name)
    run_on_dataset(function, rest)


def overview() -> str:
    """The text of ``centerclip data --help``."""
    lines = [f"  {name:<10} {what}" for name, (_, what) in ACTIONS.items()]
    return "\n".join(
        [
            "usage: centerclip data ACTION DATASET [OPTIONS]",
            "",
            "actions:",
            *lines,
            "",
            "DATASET is a file of experiments/datasets, without .yaml. Options of the dataset begin with --data, as in",
            "--data.root=FOLDER. `centerclip data ACTION --help` says more.",
        ]
    )
