from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.models import TextTower

LENGTHS = [3, 12, 7, 20, 5]
END = 99


def captions(length: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Captions of `LENGTHS` tokens, start and end included, the rest padding with random ids (the end id too)."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 97, (len(LENGTHS), 32), generator=torch.Generator().manual_seed(100))
    ids = torch.randint(0, 100, (len(LENGTHS), length), generator=generator)
    mask = torch.zeros_like(ids)
    for row, count in enumerate(LENGTHS):
        ids[row, :count] = words[row, :count]
        ids[row, 0], ids[row, count - 1] = 98, END
        mask[row, :count] = 1
    return ids, mask


@pytest.fixture
def tower(clip: CLIPModel) -> TextTower:
    return TextTower(clip.text_model, clip.text_projection)


@torch.no_grad()
def test_it_is_what_transformers_finds_at_the_end_token(clip: CLIPModel, tower: TextTower) -> None:
    ids, mask = captions()
    assert clip.config.text_config.eos_token_id == END == clip.config.text_config.vocab_size - 1
    expected = clip.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    found = tower(ids, mask)
    assert found.shape == (len(LENGTHS), 24)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    alone = torch.cat([clip.get_text_features(ids[k : k + 1, :n]).pooler_output for k, n in enumerate(LENGTHS)])
    torch.testing.assert_close(found, alone, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_padding_changes_nothing(tower: TextTower) -> None:
    ids, mask = captions(seed=1)
    found = tower(ids, mask)
    others, _ = captions(seed=2)
    assert not torch.equal(ids, others)
    assert torch.equal(tower(others, mask), found)
    assert torch.equal(tower(ids, mask.bool()), found)
    longer, its_mask = captions(32)
    torch.testing.assert_close(tower(longer, its_mask), found, atol=1e-6, rtol=1e-5)
    changed = ids.clone()
    changed[1, 5] += 1  # a word in the middle, in contrast, counts
    assert not torch.allclose(tower(changed, mask)[1], found[1])


def test_captions_that_are_too_long_are_refused(tower: TextTower) -> None:
    assert tower.context_length == 32
    ids = torch.zeros(2, 33, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"33 tokens.*takes 32") as caught:
        tower(ids, torch.ones_like(ids))
    assert "max_words" in str(caught.value.next_step)
