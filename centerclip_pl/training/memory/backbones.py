"""The sizes of a backbone without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPConfig
from transformers.utils import logging

from centerclip_pl.errors import CheckpointError

_BASE_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
_LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}

OPENAI: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "openai/clip-vit-base-patch32": (_BASE | {"patch_size": 32, "image_size": 224}, _BASE_TEXT),
    "openai/clip-vit-base-patch16": (_BASE | {"patch_size": 16, "image_size": 224}, _BASE_TEXT),
    "openai/clip-vit-large-patch14": (_LARGE | {"patch_size": 14, "image_size": 224}, _LARGE_TEXT),
    "openai/clip-vit-large-patch14-336": (_LARGE | {"patch_size": 14, "image_size": 336}, _LARGE_TEXT),
}
"""CLIP (arXiv 2103.00020), tables 19 and 20: vision and text transformer; the shared space is as wide as the text."""


def clip_config(backbone: str) -> CLIPConfig:
    """The architecture of a backbone; nothing is downloaded.

    Args:
        backbone: a folder with ``config.json``, one of OpenAI's models by its name on the Hugging Face hub, or the id
            of a model that was downloaded before.

    Raises:
        CheckpointError: it is none of these, or no CLIP.
    """
    if backbone in OPENAI:
        vision, text = OPENAI[backbone]
        return CLIPConfig(vision_config=dict(vision), text_config=dict(text), projection_dim=text["hidden_size"])
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # of two kinds of configuration in one file
    try:
        found: tuple[dict[str, Any], dict[str, Any]] = CLIPConfig.get_config_dict(backbone, local_files_only=True)
    except (OSError, ValueError) as error:
        near = "the folder has no config.json" if Path(backbone).is_dir() else "there is no such folder here"
        raise CheckpointError(
            f"backbone={backbone}: {near}, so its sizes are not known",
            "give a folder with config.json: --model.backbone=FOLDER; or one of " + ", ".join(OPENAI),
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    if found[0].get("model_type") != "clip":
        raise CheckpointError(
            f"backbone={backbone}: is a model of type {found[0].get('model_type')!r}, not 'clip'",
            "give a CLIP model with both towers, such as openai/clip-vit-base-patch32",
        )
    return CLIPConfig.from_dict(found[0])
