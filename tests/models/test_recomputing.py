"""Gradient checkpointing: what is kept, what runs again, and that gradients stay the same."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPModel

from centerclip_pl.models import VideoTower, recompute_activations
from centerclip_pl.tokens import Reducer, SparseSampling, TokenShift, encoder_blocks


def pixels(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def bytes_kept(vision: nn.Module) -> int:
    """Of tensors that the forward pass keeps for the backward pass, besides the parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in vision.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = vision(pixel_values=pixels()).pooler_output
    assert output.requires_grad  # so that the graph, and what it keeps, is alive until here
    return sum(kept.values())


def runs(vision: nn.Module) -> list[int]:
    """How often each block's MLP is begun in a forward and a backward pass; the second time torch may stop inside."""
    count = [0] * len(encoder_blocks(vision))
    handles = []
    for number, block in enumerate(encoder_blocks(vision)):

        def note(*_: Any, number: int = number) -> None:
            count[number] += 1

        handles.append(block.get_submodule("mlp").register_forward_pre_hook(note))
    vision(pixel_values=pixels()).pooler_output.sum().backward()
    for handle in handles:
        handle.remove()
    return count


def test_activations_are_computed_again_instead_of_kept(clip: CLIPModel) -> None:
    vision = clip.vision_model.train()
    plain = bytes_kept(vision)
    assert runs(vision) == [1, 1, 1, 1]
    recompute_activations(vision)
    assert runs(vision) == [2, 2, 2, 2]
    assert bytes_kept(vision) < plain / 3


def test_in_evaluation_nothing_is_computed_twice(clip: CLIPModel) -> None:
    vision = clip.vision_model.eval()
    recompute_activations(vision)
    assert runs(vision) == [1, 1, 1, 1]


def gradients(model: nn.Module, seed: int, **inputs: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(seed)
    model(**inputs).pooler_output.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_of_both_towers_are_the_same(clip: CLIPModel, dropout: float) -> None:
    """With dropout too: the second forward pass draws what the first one drew."""
    for tower in (clip.vision_model, clip.text_model):
        for module in tower.modules():
            if type(module).__name__ == "CLIPAttention":
                module.dropout = dropout  # type: ignore[assignment]
    words = torch.randint(0, 98, (3, 7), generator=torch.Generator().manual_seed(0))
    words[:, -1] = 99
    inputs = {"vision_model": {"pixel_values": pixels()}, "text_model": {"input_ids": words}}
    again = copy.deepcopy(clip).train()
    recompute_activations(again.vision_model, again.text_model)
    clip.train()
    for name, given in inputs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # checkpoint warns of what makes gradients vanish
            found = gradients(again.get_submodule(name), 3, **given)
        expected = gradients(clip.get_submodule(name), 3, **given)
        assert found.keys() == expected.keys()
        for parameter, gradient in expected.items():
            torch.testing.assert_close(found[parameter], gradient, msg=lambda text, p=parameter: f"{p}: {text}")
        other = gradients(clip.get_submodule(name), 4, **given)
        assert (dropout > 0) == any(not torch.equal(other[p], g) for p, g in expected.items())


@pytest.mark.parametrize(
    "reducers",
    [
        [SparseSampling(1, 3, 9, cluster_embedding=True), SparseSampling(3, 1, 5)],
        [TokenShift(), SparseSampling(2, 3, 7)],
    ],
)
def test_reducers_draw_the_same_again(clip: CLIPModel, reducers: list[Reducer]) -> None:
    """Through the tower, from pixels to embeddings: draws, shapes that change, and values changed in place."""
    frames = pixels(12).unflatten(0, (2, 6)).requires_grad_()
    found = []
    for recompute in (False, True):
        tower = VideoTower(*copy.deepcopy((clip.vision_model, clip.visual_projection)), copy.deepcopy(reducers), 6)
        tower.train()
        if recompute:
            recompute_activations(tower)
        torch.manual_seed(0)
        loss = tower(frames).segments.square().sum()
        found.append(torch.autograd.grad(loss, [frames, *tower.parameters()]))
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, plain)
    assert found[0][0].any(dim=-1).any()


def test_a_model_that_recomputes_can_be_copied_and_pickled(clip: CLIPModel) -> None:
    vision = clip.vision_model.train()
    recompute_activations(vision)
    for other in (copy.deepcopy(vision), pickle.loads(pickle.dumps(vision))):
        assert runs(other) == [2, 2, 2, 2]


def test_a_module_without_blocks_is_left_alone() -> None:
    head = nn.LSTM(4, 4)
    before = dict(vars(head))
    recompute_activations(head)
    assert vars(head) == before
