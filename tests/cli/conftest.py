"""A backbone, a demo and a miniature of each dataset, small enough to train on in a second."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random CLIP weights in the form of a downloaded model: 7 blocks, so that B6 exists; 64 patches."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 16}
    config = CLIPConfig(
        text_config=tower
        | {
            "num_hidden_layers": 2,
            "vocab_size": 700,
            "max_position_embeddings": 77,
            "bos_token_id": 640,
            "eos_token_id": 641,
        },
        vision_config=tower | {"num_hidden_layers": 7, "image_size": 64, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(REPOSITORY / "experiments/backbones/demo" / name, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dataset with 16, 4 and 14 videos (so that its test split has an order pair)."""
    from centerclip_pl.data.demo.generate import generate

    root = tmp_path_factory.mktemp("data") / "demo"
    generate(root, train=16, val=4, test=14, jobs=1)
    return root


@pytest.fixture(scope="session")
def tiny_msrvtt(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    """MSR-VTT's files as published, with 12 training videos of 2 captions each and 4 test videos."""
    root = tmp_path_factory.mktemp("data") / "msrvtt"
    (root / "videos").mkdir(parents=True)
    names = [f"video{k}" for k in range(16)]
    for k, name in enumerate(names):
        make_video(root / "videos" / f"{name}.mp4", 12 + k, color_fn=lambda i, k=k: (10 * k, 5 * i, 90))
    for file in ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv"):
        (root / file).write_text("\n".join(["video_id", *names[:12], ""]))
    with (root / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "vid_key", "video_id", "sentence"])
        for k, name in enumerate(names[12:]):
            writer.writerow([f"ret{k}", f"msr{k}", name, f"a colour of number {k}"])
    sentences = [
        {"video_id": name, "caption": f"shade {k} of {c}", "sen_id": 2 * k + c}
        for k, name in enumerate(names)
        for c in (0, 1)
    ]
    (root / "MSRVTT_data.json").write_text(json.dumps({"videos": [], "sentences": sentences}))
    return root


@pytest.fixture(scope="session")
def tiny_custom(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    """Ten videos and a CSV of captions."""
    root = tmp_path_factory.mktemp("data") / "custom"
    root.mkdir()
    lines = ["video,caption,split"]
    for k in range(10):
        make_video(root / f"clip{k}.mp4", 12, color_fn=lambda i, k=k: (25 * k, 9 * i, 60))
        lines.append(f"clip{k}.mp4,this is clip number {k},{'train' if k < 6 else 'val' if k < 8 else 'test'}")
    captions = root / "captions.csv"
    captions.write_text("\n".join(lines) + "\n")
    return captions
