"""What CLIP a file holds, read off the shapes of its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any, Protocol

from transformers import CLIPConfig

from centerclip_pl.errors import CheckpointError
from centerclip_pl.models.published.keys import PATCHES

CHANNELS_PER_HEAD = 64
_VISION, _TEXT = "video.vision.", "text.text."
_PROBES = {
    "video.projection.weight": 2,
    f"{_VISION}embeddings.position_embedding.weight": 2,
    f"{_VISION}encoder.layers.0.mlp.fc1.weight": 2,
    f"{_TEXT}embeddings.token_embedding.weight": 2,
    f"{_TEXT}embeddings.position_embedding.weight": 2,
    f"{_TEXT}encoder.layers.0.mlp.fc1.weight": 2,
}
_SIZES = {(384, 12): "S", (768, 12): "B", (1024, 24): "L", (1280, 32): "H", (1664, 48): "bigG"}


class Shapes(Protocol):
    """Where the shapes come from."""

    @property
    def path(self) -> Path:
        """The file, for messages."""

    def shape(self, name: str) -> Sequence[int] | None:
        """The shape of the weight that this package calls `name`; None if the file does not have it."""

    def name_in_file(self, name: str) -> str:
        """What the file calls it."""

    def blocks(self, name: str) -> int:
        """Of how many blocks the file has weights, where `name` is one of block 0."""


def clip_config(file: Shapes, known: CLIPConfig | None = None) -> CLIPConfig:
    """The architecture of a file's CLIP.

    What shapes cannot say is as in all of OpenAI's: 64 channels a head, QuickGELU, layer norms with 1e-5, and the last
    two tokens of the vocabulary starting and ending a caption.

    Args:
        file: of the weights.
        known: a description that came with the weights; it says these things, and must agree with the shapes.

    Raises:
        CheckpointError: if a tower is missing, shapes are not those of a CLIP, or the description has others.
    """
    absent = [file.name_in_file(name) for name in (PATCHES, *_PROBES) if file.shape(name) is None]
    if absent:
        raise CheckpointError(
            f"checkpoint {file.path}: is no whole CLIP: it has no {', '.join(absent)}",
            "give a CLIP with both towers, such as openai/clip-vit-base-patch32",
        )
    shapes = {name: _shape(file, name, (dimensions,)) for name, dimensions in _PROBES.items()}
    kernel = _shape(file, PATCHES, (4, 5))
    positions = shapes[f"{_VISION}embeddings.position_embedding.weight"][0]
    patch, grid = kernel[-1], isqrt(positions - 1)
    if kernel[-2] != patch or grid < 1 or grid * grid + 1 != positions:
        raise CheckpointError(
            f"checkpoint {file.path}: its pictures or patches are not square: {file.name_in_file(PATCHES)} is "
            f"{list(kernel)}, for {positions} positions"
        )
    vocabulary, text_width = shapes[f"{_TEXT}embeddings.token_embedding.weight"]
    projection = shapes["video.projection.weight"][0]
    if vocabulary < 2:
        raise CheckpointError(
            f"checkpoint {file.path}: its vocabulary has {vocabulary} token, too few to start and to end a caption"
        )
    vision = {
        "hidden_size": kernel[0],
        "intermediate_size": shapes[f"{_VISION}encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": file.blocks(f"{_VISION}encoder.layers.0.mlp.fc1.weight"),
        "image_size": grid * patch,
        "patch_size": patch,
    }
    text = {
        "hidden_size": text_width,
        "intermediate_size": shapes[f"{_TEXT}encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": file.blocks(f"{_TEXT}encoder.layers.0.mlp.fc1.weight"),
        "vocab_size": vocabulary,
        "max_position_embeddings": shapes[f"{_TEXT}embeddings.position_embedding.weight"][0],
    }
    if known is not None:
        _check(file.path, known, vision, text, projection)
        return known
    for tower, sizes in (("vision", vision), ("text", text)):
        if sizes["hidden_size"] % CHANNELS_PER_HEAD:
            raise CheckpointError(
                f"checkpoint {file.path}: its {tower} transformer has {sizes['hidden_size']} channels, which cannot be "
                f"divided into heads of {CHANNELS_PER_HEAD}",
                "give it as a Hugging Face folder, whose config.json says the number of heads",
            )
    shared = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": projection}
    tokens = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    return CLIPConfig(
        vision_config=vision | shared | {"num_attention_heads": kernel[0] // CHANNELS_PER_HEAD},
        text_config=text | shared | tokens | {"num_attention_heads": text_width // CHANNELS_PER_HEAD},
        projection_dim=projection,
    )


def read_config(path: Path) -> CLIPConfig:
    """A ``config.json`` of Hugging Face.

    Raises:
        CheckpointError: if it is not one of a CLIP.
    """
    try:
        content = json.loads(path.read_text())
        kind = content.get("model_type")
        config: CLIPConfig | None = CLIPConfig.from_dict(content) if kind == "clip" else None
    except Exception as error:  # json, the encoding, and transformers' own checks
        raise CheckpointError(f"{path}: cannot be read: {error}", "copy it again, whole") from error
    if config is None:
        raise CheckpointError(f"{path}: describes a model of type {kind!r}, not 'clip'", "give a CLIP with both towers")
    return config


def describe(config: CLIPConfig) -> str:
    """A line about an architecture, such as "ViT-B/32: 12 blocks of 768, 224 px, patch 32; text: ..."."""
    vision: Any = config.vision_config
    text: Any = config.text_config
    size = _SIZES.get((vision.hidden_size, vision.num_hidden_layers))
    name = f"ViT{'' if size is None else f'-{size}'}/{vision.patch_size}"
    return (
        f"{name}: {vision.num_hidden_layers} blocks of {vision.hidden_size}, {vision.image_size} px, "
        f"patch {vision.patch_size}; text: {text.num_hidden_layers} blocks of {text.hidden_size}, "
        f"{text.max_position_embeddings} of {text.vocab_size} tokens; embedding: {config.projection_dim}"
    )


def _shape(file: Shapes, name: str, dimensions: tuple[int, ...]) -> Sequence[int]:
    shape = file.shape(name)
    if shape is None or len(shape) not in dimensions or not all(shape):
        found = "absent" if shape is None else list(shape)
        raise CheckpointError(
            f"checkpoint {file.path}: {file.name_in_file(name)} is {found}, but must have "
            f"{' or '.join(map(str, dimensions))} dimensions, none of them empty"
        )
    return shape


def _check(path: Path, known: CLIPConfig, vision: dict[str, int], text: dict[str, int], projection: int) -> None:
    towers: tuple[tuple[str, Any, dict[str, int]], ...] = (
        ("vision_config.", known.vision_config, vision),
        ("text_config.", known.text_config, text),
        ("", known, {"projection_dim": projection}),
    )
    wrong = [
        f"{where}{name} is {getattr(config, name)} there and {size} by the weights' shapes"
        for where, config, sizes in towers
        for name, size in sizes.items()
        if getattr(config, name) != size
    ]
    if wrong:
        raise CheckpointError(
            f"checkpoint {path}: its description (config.json) is of another model: {'; '.join(wrong)}",
            "put the config.json beside it that belongs to it",
        )
