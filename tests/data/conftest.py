"""A tokenizer and a dataset small enough to read in whole."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A saved word-level tokenizer: [UNK] 0, [PAD] 1, <s> 2, </s> 3, then w0 4, w1 5, ... w59 63."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[UNK]", "[PAD]", "<s>", "</s>", *(f"w{k}" for k in range(60))]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return str(folder)


class Corpus(NamedTuple):
    """A custom dataset; video ``k`` (of any split) is all grey of level ``10 + 12 k``."""

    root: Path
    captions: Path
    rows: list[dict[str, Any]]


@pytest.fixture(scope="session")
def corpus_files(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Corpus:
    """10 training videos with 3 captions each, 3 for validation and 4 for test with 1, 2, 3, ... captions each."""
    root = tmp_path_factory.mktemp("corpus")
    rows: list[dict[str, Any]] = []
    number = 0
    for split, count in (("train", 10), ("val", 3), ("test", 4)):
        for k in range(count):
            name = f"{split}{k}.mp4"
            level = 10 + 12 * number
            make_video(root / name, 3 + 2 * k, size=(40, 32), color_fn=lambda _, level=level: (level,) * 3)
            for c in range(3 if split == "train" else k + 1):
                tag = "order" if split == "test" and k == 2 else ""
                rows.append({"video": name, "caption": f"w{number} w{30 + c}", "split": split, "tag": tag})
            number += 1
    captions = root / "captions.csv"
    with captions.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Corpus(root, captions, rows)


@pytest.fixture
def corpus(corpus_files: Corpus, tmp_path: Path) -> Corpus:
    """A copy of ``corpus_files`` that a test may break."""
    import shutil

    root = tmp_path / "corpus"
    shutil.copytree(corpus_files.root, root, ignore=shutil.ignore_patterns(".centerclip"))
    return Corpus(root, root / "captions.csv", [dict(row) for row in corpus_files.rows])
