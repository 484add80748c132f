from __future__ import annotations

import gzip
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from centerclip_pl.data.tokenizer import CaptionTokenizer
from centerclip_pl.errors import CheckpointError, ConfigError

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations"


def test_start_words_end_padding(tokenizer_folder: str) -> None:
    input_ids, attention_mask = CaptionTokenizer(tokenizer_folder, 6)(["w0 w1", "W5", "w1 w2 w3 w4 w5 w6", "nonsense"])
    assert input_ids.tolist() == [
        [2, 4, 5, 3, 1, 1],
        [2, 9, 3, 1, 1, 1],  # lower-cased
        [2, 5, 6, 7, 8, 3],  # cut, and the end token is kept
        [2, 0, 3, 1, 1, 1],
    ]
    assert attention_mask.tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0],
    ]
    assert input_ids.dtype == attention_mask.dtype == torch.int64


def test_no_captions(tokenizer_folder: str) -> None:
    input_ids, attention_mask = CaptionTokenizer(tokenizer_folder, 6)([])
    assert input_ids.shape == attention_mask.shape == (0, 6)
    assert input_ids.dtype == torch.int64


def test_it_travels_without_the_tokenizer(tokenizer_folder: str) -> None:
    tokenizer = CaptionTokenizer(tokenizer_folder, 5)
    expected = tokenizer(["w1"])[0]
    data = pickle.dumps(tokenizer)
    assert len(data) < 500
    assert torch.equal(pickle.loads(data)(["w1"])[0], expected)


def test_what_a_tokenizer_adds_by_itself_is_not_added_twice(tokenizer_folder: str, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    assert tokenizer("w0")["input_ids"] == [2, 4, 3]
    tokenizer.save_pretrained(tmp_path)
    assert CaptionTokenizer(str(tmp_path), 5)(["w0"])[0].tolist() == [[2, 4, 3, 1, 1]]


def test_clip_tokenizer(tmp_path: Path) -> None:
    merges_file = ANNOTATIONS / "clip_bpe_vocab_16e6.txt.gz"
    if not merges_file.is_file():
        pytest.skip(f"CLIP's merge list is not at {merges_file}")
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    merges = gzip.decompress(merges_file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    printable = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    letters = printable + sorted(set(ByteLevel.alphabet()) - set(printable))  # the order in which CLIP numbers bytes
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    vocabulary = {word: k for k, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    pairs = [tuple(merge.split()) for merge in merges]
    CLIPTokenizer(vocab=vocabulary, merges=pairs).save_pretrained(tmp_path)
    input_ids, attention_mask = CaptionTokenizer(str(tmp_path), 9)(["A photo of a Cat", "a " * 50])
    # "a photo of a cat" is 320 1125 539 320 2368 in CLIP's own tokenizer.
    assert input_ids[0].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 49407, 49407]
    assert attention_mask[0].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert input_ids[1].tolist() == [49406, *[320] * 7, 49407]
    assert attention_mask[1].sum() == 9


@pytest.mark.parametrize("max_words", [2, 0, -1])
def test_room_for_a_word(max_words: int) -> None:
    with pytest.raises(ConfigError, match=f"max_words={max_words}"):
        CaptionTokenizer("anything", max_words)


def test_absent_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # on any machine as on one without a network
    with pytest.raises(CheckpointError, match="someone/something-absent") as caught:
        CaptionTokenizer("someone/something-absent", 8).load()
    assert "HF_HOME" in str(caught.value.next_step)
    assert "--model.backbone=FOLDER" in str(caught.value.next_step)
    with pytest.raises(CheckpointError, match="no such folder"):
        CaptionTokenizer(str(tmp_path / "nowhere"), 8).load()


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="no tokenizer can be loaded from") as caught:
        CaptionTokenizer(str(tmp_path), 8).load()
    assert str(tmp_path) in caught.value.problem


def test_a_model_without_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')  # of which transformers makes an empty tokenizer
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    for part in ("", "vocab.json"):
        if part:
            (tmp_path / part).write_text("{}")
        with pytest.raises(CheckpointError, match="no tokenizer can be loaded from") as caught:
            CaptionTokenizer(str(tmp_path), 8).load()
        for name in ("tokenizer.json", "vocab.json", "merges.txt", str(tmp_path)):
            assert name in str(caught.value.next_step)


def test_a_tokenizer_without_words(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[]).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    with pytest.raises(CheckpointError, match="has no words, only 2 special tokens") as caught:
        CaptionTokenizer(str(tmp_path), 8).load()
    assert str(tmp_path) in caught.value.problem


def test_a_tokenizer_that_knows_none_of_the_words(tokenizer_folder: str) -> None:
    tokenizer = CaptionTokenizer(tokenizer_folder, 8)
    tokenizer.require_words([])
    tokenizer.require_words(["a dog", "a W1"])
    with pytest.raises(CheckpointError, match=r"knows no word of the captions, e\.g\. of 'a dog'"):
        tokenizer.require_words(["A dog", "a cat"])


class Hub:
    """A repository of the hub, and a cache that holds only some of its files."""

    def __init__(self, folder: Path, repository: str, cached: list[str]) -> None:
        self.cache, self.repository = folder / "cache", Path(repository)
        self.cache.mkdir()
        self.fetch(cached)

    def fetch(self, patterns: list[str]) -> None:
        for pattern in patterns:
            for file in self.repository.glob(pattern):
                shutil.copy(file, self.cache)

    def snapshot_download(self, name: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if not local_files_only:
            self.fetch(allow_patterns)
        return str(self.cache)


def test_a_cache_with_a_part_of_the_tokenizer_is_completed(
    tokenizer_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, tokenizer_folder, ["tokenizer_config.json"])
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    assert CaptionTokenizer("someone/something", 5)(["w0"])[0].tolist() == [[2, 4, 3, 1, 1]]


def test_a_hub_repository_without_tokenizer(
    tokenizer_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, tokenizer_folder, ["tokenizer_config.json"])
    hub.repository = tmp_path / "nothing"
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    with pytest.raises(CheckpointError, match="no tokenizer can be loaded from someone/something") as caught:
        CaptionTokenizer("someone/something", 5).load()
    assert str(hub.cache) in str(caught.value.next_step)


def test_a_tokenizer_without_end(tokenizer_folder: str, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    backend = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no eos_token"):
        CaptionTokenizer(str(tmp_path), 8).load()


def test_loading_does_not_leave_threads_on(tokenizer_folder: str) -> None:
    CaptionTokenizer(tokenizer_folder, 8).load()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
