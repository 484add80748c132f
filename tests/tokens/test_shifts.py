"""Token shift as the published implementation has it; definitions written as loops are in test_methods.py."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from centerclip_pl.tokens import TemporalShift, TokenShift
from centerclip_pl.tokens.shifts import shift_channels

GOLDEN = Path(__file__).parents[1] / "golden" / "tokens_shift.safetensors"
FRAMES = 12


def test_token_shift_is_the_published_one() -> None:
    golden = load_file(GOLDEN)
    assert not torch.equal(golden["in"], golden["out"])
    assert torch.equal(TokenShift()(golden["in"], FRAMES), golden["out"])


def test_temporal_shift_does_to_patches_what_token_shift_does_to_cls() -> None:
    golden = load_file(GOLDEN)
    patches_last = golden["in"][:, [1, 0]]  # a patch in the place of CLS, and CLS in the place of a patch
    expected = torch.stack([patches_last[:, 0], golden["out"][:, 0]], dim=1)
    assert torch.equal(TemporalShift()(patches_last, FRAMES), expected)


def test_nothing_crosses_from_one_video_to_the_next() -> None:
    tokens = torch.zeros(2 * 3, 1, 16)
    tokens[3:] = 1.0  # the second video
    found = shift_channels(tokens, 3)
    assert not found[:3].any()
    assert not found[5, :, :2].any()  # nothing follows its last frame
    assert not found[3, :, 2:4].any()  # nothing precedes its first
    assert found[3:, :, 4:].all()


def test_what_is_shifted_is_not_changed_in_place() -> None:
    tokens = torch.randn(6, 3, 16, generator=torch.Generator().manual_seed(0))
    before = tokens.clone()
    TokenShift()(tokens, 3)
    TemporalShift()(tokens, 3)
    assert torch.equal(tokens, before)
