"""Keeping keys and passwords out of what a run writes down: its command, its options, its logs."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"

# The name of an option that holds a secret ends in one of these words: --logger.api_key, WANDB_API_KEY, --hub-token.
# Only the end counts, and only whole words, so that num_tokens, tokenizer or keyframes stay readable.
_SECRET_NAME = re.compile(r"(?:^|[._-])(?:(?:api|access|secret|private|auth)[_-]?key|token|secret|password|passwd|"
                          r"credentials?)$", re.IGNORECASE)  # fmt: skip
# Tokens of a vocabulary, and hashes that say which version was used: no secrets, and needed to repeat a run.
_PLAIN_NAME = re.compile(
    r"(?:^|[._-])(?:(?:bos|eos|start|end|pad|unk|cls|sep|mask)[_-]token|revision|commit|sha\d*)$", re.I
)
# Values that are secrets whatever they are called: keys of Hugging Face, W&B, GitHub, OpenAI and AWS, web tokens, bare
# 40-digit W&B keys, and the password in a URL.
_SECRET_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bwandb_v\d+_[A-Za-z0-9_-]{16,}|\b(?:ghp|gho|ghs|ghu|github_pat)_[A-Za-z0-9_]{16,}"
    r"|\bsk-[A-Za-z0-9_-]{16,}|\bAKIA[A-Z0-9]{12,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|\b(?:local-)?[0-9a-f]{40}\b"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)


def is_secret_name(name: str) -> bool:
    """Whether an option or a variable of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None and not _is_plain_name(name)


def _is_plain_name(name: str) -> bool:
    return _PLAIN_NAME.search(name) is not None


def mask_text(text: str) -> str:
    """The text without what looks like a key, or is the value of an environment variable that holds a secret."""
    for name, value in os.environ.items():
        if len(value) >= 8 and is_secret_name(name):
            text = text.replace(value, MASK)
    return _SECRET_VALUE.sub(MASK, text)


def mask_command(arguments: Sequence[str]) -> str:
    """A command line as one would type it, secrets masked: in ``--x.token abc``, ``--x.token=abc`` and in any value."""
    masked: list[str] = []
    before_is = ""
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_option = argument.startswith("-")
        if before_is == "secret" and not is_option:
            masked.append(MASK)
        elif equals and is_secret_name(name):
            masked.append(f"{name}={MASK}")
        elif (before_is == "plain" and not is_option) or (equals and _is_plain_name(name)):
            masked.append(argument)
        else:
            masked.append(mask_text(argument))
        before_is = ""
        if is_option and not equals:
            before_is = "secret" if is_secret_name(name) else "plain" if _is_plain_name(name) else ""
    return shlex.join(masked).replace(f"'{MASK}'", MASK)


def mask_config(config: Any) -> Any:
    """A copy of nested options (dicts and lists of plain values) with secrets masked by name and by value."""
    if isinstance(config, Mapping):
        return {key: _mask_entry(str(key), value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [mask_config(value) for value in config]
    return mask_text(config) if isinstance(config, str) else config


def _mask_entry(name: str, value: Any) -> Any:
    if is_secret_name(name):
        return None if value is None else MASK
    return value if _is_plain_name(name) and isinstance(value, str) else mask_config(value)
