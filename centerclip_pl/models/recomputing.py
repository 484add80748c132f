"""Gradient checkpointing: activations are computed a second time instead of being kept."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from centerclip_pl.draws import same_draws_again


def recompute_activations(*modules: nn.Module) -> None:
    """Makes all transformer blocks inside keep nothing but their input, in training.

    Set block by block, for transformers' own switch is renamed between its versions and exists on whole models alone.
    """
    for module in modules:
        for block in module.modules():
            if isinstance(block, GradientCheckpointingLayer):
                block._gradient_checkpointing_func = partial(  # type: ignore[assignment]
                    checkpoint, use_reentrant=False, context_fn=same_draws_again
                )
                block.gradient_checkpointing = True
