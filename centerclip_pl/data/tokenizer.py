"""Captions to token ids, by whatever tokenizer belongs to the text tower."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from centerclip_pl.errors import CheckpointError, ConfigError
from centerclip_pl.hub import fetch_from_hub, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WHOLE = ("tokenizer.json",), ("vocab.json", "merges.txt")  # either has all the words
_FILES = ["config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json"]


class CaptionTokenizer:
    """Lower-cased words between a start and an end token, cut so that the end token is kept (as CLIP4Clip).

    Every batch is padded to ``max_words``, not to its longest caption: a caption's embedding then cannot depend, even
    by a rounding error, on which others it is evaluated with, and compiled models see one shape. The text tower is a
    small share of the cost. The start and end tokens are added here, from ``bos_token_id`` and ``eos_token_id``; what a
    tokenizer would add by itself differs between tokenizers.

    The tokenizer is loaded when first used, in each process that uses it; the object itself is small and picklable.

    Args:
        name_or_path: a folder with a saved tokenizer, or an id on the Hugging Face hub.
        max_words: length of the result, start and end tokens included; at least 3.

    Raises:
        ConfigError: ``max_words`` leaves no room for a word.
    """

    def __init__(self, name_or_path: str, max_words: int) -> None:
        if max_words < 3:
            raise ConfigError(f"max_words={max_words}: a start token, a word and an end token need at least 3")
        self.name_or_path = str(name_or_path)
        self.max_words = max_words
        self._tokenizer: PreTrainedTokenizerBase | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None}

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode captions.

        Returns:
            ``input_ids`` and ``attention_mask``, both int64 ``[Q, max_words]``; the mask is 1 up to and including the
            end token. ``Q`` may be 0.

        Raises:
            CheckpointError: the tokenizer cannot be loaded.
        """
        tokenizer = self.load()
        start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        pad = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        input_ids = torch.full((len(captions), self.max_words), int(pad), dtype=torch.int64)
        attention_mask = torch.zeros_like(input_ids)
        if captions:
            texts = [caption.lower() for caption in captions]
            encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            for row, words in enumerate(encoded):
                ids = [start, *words[: self.max_words - 2], end]
                input_ids[row, : len(ids)] = torch.tensor(ids)
                attention_mask[row, : len(ids)] = 1
        return input_ids, attention_mask

    def load(self) -> PreTrainedTokenizerBase:
        """The tokenizer itself; calling this before training reports a missing one before training.

        Raises:
            CheckpointError: there is no such folder, it holds no tokenizer or a part of one, it cannot be downloaded,
                or the tokenizer has no words, no start or no end token.
        """
        if self._tokenizer is None:
            # Threads inside the tokenizer gain nothing on a few captions, and warn or block when a loader forks.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            from transformers import AutoTokenizer
            from transformers.utils import logging

            folder = self._folder()
            verbosity = logging.get_verbosity()
            logging.set_verbosity_error()  # a folder with a tokenizer and no model is what is wanted here
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            except Exception as error:  # OSError, ValueError, KeyError, json errors: transformers raises many
                raise CheckpointError(
                    f"no tokenizer can be loaded from {self.name_or_path}: {first_line(error)}",
                    f"{folder} must hold what tokenizer.save_pretrained() wrote (tokenizer.json, "
                    "tokenizer_config.json)",
                ) from error
            finally:
                logging.set_verbosity(verbosity)
            if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
                raise CheckpointError(
                    f"the tokenizer {self.name_or_path} has no words, only {len(tokenizer)} special tokens",
                    _add(folder),
                )
            for token in ("bos_token", "eos_token"):
                if getattr(tokenizer, token) is None:
                    raise CheckpointError(
                        f"the tokenizer {self.name_or_path} has no {token}",
                        "use the tokenizer of a CLIP text model, which has both",
                    )
            self._tokenizer = tokenizer
        return self._tokenizer

    def require_words(self, captions: Sequence[str]) -> None:
        """Make sure, before training, that the tokenizer knows anything of what captions say.

        Args:
            captions: some of the dataset's; none: nothing to be said.

        Raises:
            CheckpointError: all their words are unknown, or as for :meth:`load`.
        """
        tokenizer = self.load()
        texts = [caption.lower() for caption in captions]
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"] if texts else []
        if texts and {word for words in encoded for word in words} <= {tokenizer.unk_token_id}:
            raise CheckpointError(
                f"the tokenizer {self.name_or_path} knows no word of the captions, e.g. of {texts[0][:80]!r}",
                "use the tokenizer that the text model was trained with, for captions in its language",
            )

    def _folder(self) -> str:
        """Where the tokenizer's files are, all of them.

        transformers makes a tokenizer without any words of a folder that lacks those files, and says nothing.
        """
        name = self.name_or_path
        if Path(name).is_dir():
            folder = name
        else:
            folder = fetch_from_hub(name, _FILES, "tokenizer")
            if not _is_whole(folder):  # other programs may have put a part of it into the cache
                for file in [*(file for files in _WHOLE for file in files), *_FILES]:
                    folder = fetch_from_hub(name, [file], "tokenizer")
        if not _is_whole(folder):
            raise CheckpointError(
                f"no tokenizer can be loaded from {name}: it has neither tokenizer.json nor vocab.json with merges.txt",
                _add(folder),
            )
        return folder


def _is_whole(folder: str) -> bool:
    return any(all((Path(folder) / file).is_file() for file in files) for files in _WHOLE)


def _add(folder: str) -> str:
    return (
        f"put into {folder} what tokenizer.save_pretrained() writes, or tokenizer.json (or vocab.json and merges.txt) "
        "from where the model is published"
    )
