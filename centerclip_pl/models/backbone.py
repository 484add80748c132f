"""CLIP weights by name, folder or configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel
from transformers.utils import logging

from centerclip_pl.errors import CheckpointError
from centerclip_pl.hub import fetch_from_hub, first_line

_WHOLE_CLIP = "give a CLIP model with both towers, such as openai/clip-vit-base-patch32"


def load_backbone(backbone: str | CLIPConfig, attention: str = "sdpa") -> CLIPModel:
    """A CLIP model in float32.

    Args:
        backbone: a local folder in Hugging Face format, the id of a model on the Hugging Face hub, or a configuration,
            which gives random weights.
        attention: the attention implementation, as transformers names it.

    Raises:
        CheckpointError: if the folder or model cannot be found or downloaded, is not CLIP, or lacks weights.
    """
    if isinstance(backbone, CLIPConfig):
        model: CLIPModel = CLIPModel(backbone)
        model.set_attn_implementation(attention)
        return model
    folder = Path(backbone)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"backbone={backbone}: the folder has no config.json", "give a folder that save_pretrained wrote"
            )
    elif backbone.startswith((".", "/", "~")) or backbone.count("/") != 1:
        raise CheckpointError(
            f"backbone={backbone}: there is no such folder (looked in {Path.cwd()})",
            "give a folder with config.json and model.safetensors, or a hub id such as openai/clip-vit-base-patch32",
        )
    else:
        folder = Path(
            fetch_from_hub(backbone, ["config.json"], "backbone")
        )  # says at once what is wrong, if something is
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
        if kind != "clip":
            raise CheckpointError(f"backbone={backbone}: is a model of type {kind!r}, not 'clip'", _WHOLE_CLIP)
        model, report = _read(backbone, attention)
    except CheckpointError:
        raise
    except Exception as error:  # safetensors, pickle, the hub's client and transformers raise many classes between them
        raise CheckpointError(
            f"backbone={backbone}: cannot be read: {first_line(error)}",
            "copy or download it again; config.json and model.safetensors must be whole",
        ) from error
    absent = sorted([*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])])
    if absent:
        raise CheckpointError(
            f"backbone={backbone} is not a complete CLIP: {len(absent)} weights are missing or of another shape, "
            f"the first being {', '.join(absent[:3])}",
            _WHOLE_CLIP,
        )
    return model


def _read(backbone: str, attention: str) -> tuple[CLIPModel, dict[str, Any]]:
    """The model and transformers' report on its weights; the hub is asked only for what is not on this machine."""

    def read(local: bool) -> tuple[CLIPModel, dict[str, Any]]:
        loaded: Any = CLIPModel.from_pretrained(
            backbone,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the caller reports them, by name
            local_files_only=local,
        )
        return loaded

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the report is returned as well
    try:
        return read(local=True)
    except OSError:
        if Path(backbone).is_dir():
            raise
        return read(local=False)
    finally:
        logging.set_verbosity(verbosity)
