"""CLIP weights by name, folder or configuration."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from centerclip_pl.errors import CheckpointError


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
        model = CLIPModel(backbone)
        model.set_attn_implementation(attention)
        return model
    folder = Path(backbone)
    if not folder.is_dir() and (backbone.startswith((".", "/", "~")) or backbone.count("/") != 1):
        raise CheckpointError(
            f"backbone {backbone!r}: there is no such folder (looked in {Path.cwd()})",
            "give a folder with config.json and model.safetensors, or a hub id such as openai/clip-vit-base-patch32",
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"backbone {backbone!r}: the folder has no config.json", "give a folder that save_pretrained wrote"
        )
    try:
        model, report = CLIPModel.from_pretrained(
            backbone, dtype=torch.float32, attn_implementation=attention, output_loading_info=True
        )
    except Exception as error:  # the hub client, safetensors and transformers raise some twenty classes between them
        raise _explain(backbone, folder.is_dir(), error) from error
    absent = sorted(report["missing_keys"]) + sorted(map(str, report.get("mismatched_keys", ())))
    if absent:
        raise CheckpointError(
            f"backbone {backbone!r} is not a complete CLIP: {len(absent)} weights are missing or of another shape, "
            f"the first being {', '.join(absent[:3])}",
            "give a CLIP model with both towers",
        )
    return model


def _explain(backbone: str, local: bool, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if local:
        return CheckpointError(
            f"backbone {backbone!r}: the folder's weights cannot be read: {reason}",
            "copy or download the folder again; config.json and model.safetensors must be whole",
        )
    return CheckpointError(
        f"backbone {backbone!r}: neither a folder here nor a model that could be downloaded: {reason}",
        "check the name and the connection; without one, run `hf download "
        f"{backbone} --local-dir FOLDER` on a connected machine, copy the folder, and pass --model.backbone=FOLDER",
    )
