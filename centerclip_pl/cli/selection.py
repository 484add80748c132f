"""``--select``: by what the weights that a training is tested with are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import yaml
from jsonargparse import Namespace

from centerclip_pl.errors import ConfigError

Rule = Literal["val", "test", "last"]

SELECT_HELP = (
    "the weights that `train` tests: val, the best on validation (default); test, the best on the test split, as the "
    "published systems do (optimistic; the same as --data.select_on_test=true); last, as training leaves them"
)
_ON_TEST = ("--data.select_on_test", "--data.init_args.select_on_test")


def settle_rule(options: Namespace, words: Sequence[str], begun_with: str | None = None) -> str:
    """By what the weights are chosen; ``data.select_on_test`` of the options is set accordingly.

    Args:
        options: of ``fit``, with the data's.
        words: as they were typed, which tell an option that was given from its default.
        begun_with: the rule of the run that is gone on with; it is kept where none is given. None: not known, or a new
            run.

    Raises:
        ConfigError: options contradict each other or the run, or nothing would be validated that could choose.
    """
    data = options.data.init_args
    on_test = bool(data.get("select_on_test"))
    if options.select in ("val", "last") and on_test:
        raise ConfigError(
            f"select={options.select} and data.select_on_test=true contradict each other",
            "leave one of them out; --select=test alone chooses the checkpoint on the test split",
        )
    if options.select == "test" and _switched_off(words):
        raise ConfigError("select=test and data.select_on_test=false contradict each other", "leave one of them out")
    given = options.select or ("test" if on_test else None)
    if given and begun_with and given != begun_with:
        raise ConfigError(
            f"the run was begun with select={begun_with} and cannot go on with select={given}",
            f"leave --select out or give --select={begun_with}, or start a new run with another --run_dir",
        )
    rule = given or begun_with or "val"
    if begun_with and begun_with != "val":
        options.select = rule  # goes into config.yaml again
    if rule == "test":
        data.select_on_test = True
    if rule != "last" and options.trainer.limit_val_batches == 0:
        raise ConfigError(
            "trainer.limit_val_batches is 0, so that no checkpoint can be chosen by validation",
            "leave it out, or test the weights as training leaves them: --select=last",
        )
    return rule


def refuse_rule(command: str, words: Sequence[Any]) -> None:
    """Refuses ``--select`` for a command that does not train.

    Raises:
        ConfigError: it was given.
    """
    if any(str(word).partition("=")[0] == "--select" for word in words):
        raise ConfigError(
            f"--select has no effect on {command}: the weights are those of the checkpoint that is named",
            "leave it out; a run keeps best.ckpt and last.ckpt in its folder checkpoints",
        )


def _switched_off(words: Sequence[str]) -> bool:
    """Whether ``data.select_on_test`` was given as false."""
    given = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = str(word).partition("=")
        if name in _ON_TEST:
            given = value if equals else str(following)
    return yaml.safe_load(given) is False  # as the parser reads it: also no, off
