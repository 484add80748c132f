"""Keeps the lower layers of CLIP's towers as they were pretrained, as CLIP4Clip (arXiv 2104.08860) can."""

from __future__ import annotations

from torch import nn

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import encoder_blocks

PATCHES_3D = 5
"""Dimensions of the weight of a patch embedding that spans several frames: ``[width, 3, time, P, P]``."""


def freeze_layers(vision: nn.Module, text: nn.Module, count: int | None) -> list[str]:
    """Takes the embeddings and the first blocks of both towers out of the training.

    Frozen are, in both towers, all of ``embeddings`` (class, patch and position embeddings; token and position
    embeddings), the vision tower's layer norm in front of its blocks, and the first `count` blocks. A 3D patch
    embedding is new to CLIP and stays trainable, as do later blocks, the last layer norms and everything outside of
    the two modules. Frozen parameters have ``requires_grad`` false; nothing is ever made trainable again.

    To be called before the optimiser is made and before the model is wrapped for several processes.

    Args:
        vision: CLIP's vision transformer (``CLIPVisionModel``).
        text: CLIP's text transformer (``CLIPTextModel``).
        count: blocks of each tower that are frozen; 0: the embeddings alone; None: nothing at all.

    Returns:
        The names of the frozen parameters within their tower, behind ``vision.`` or ``text.``.

    Raises:
        ConfigError: if `count` is negative or larger than the blocks of a tower; then nothing is frozen.
    """
    if count is None:
        return []
    towers = {"vision": vision, "text": text}
    blocks = {kind: encoder_blocks(tower) for kind, tower in towers.items()}
    fewest = min(map(len, blocks.values()))
    if not 0 <= count <= fewest:
        sizes = " and ".join(f"{len(found)} blocks in the {kind} tower" for kind, found in blocks.items())
        raise ConfigError(
            f"freeze_layers is {count}, but the backbone has {sizes}",
            f"choose a number from 0 (the embeddings alone) to {fewest}, or null to freeze nothing",
        )
    frozen = []
    for kind, tower in towers.items():
        inside = {id(parameter) for block in blocks[kind][:count] for parameter in block.parameters()}
        for name, parameter in tower.named_parameters():
            if id(parameter) in inside or _in_front(name, parameter):
                parameter.requires_grad_(False)
                frozen.append(f"{kind}.{name}")
    return frozen


def _in_front(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter belongs to what comes before the first block."""
    parts = name.split(".")
    if "patch_embedding" in parts and parameter.ndim == PATCHES_3D:
        return False
    return "embeddings" in parts or "pre_layrnorm" in parts
