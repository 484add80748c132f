"""A backbone, a demo and a miniature of each dataset, small enough to train on in a second."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MakeVideo = Callable[..., Path]
WriteMiniature = Callable[[str, Path], dict[str, str]]


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
def tiny_msrvtt(tmp_path_factory: pytest.TempPathFactory, write_miniature: WriteMiniature) -> Path:
    """MSR-VTT's files as published, with 12 training videos of 2 captions each and 4 test videos."""
    root = tmp_path_factory.mktemp("data") / "msrvtt"
    write_miniature("msrvtt", root)
    return root


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """The options that make the dataset of experiments/datasets a miniature, written when first asked for."""
    written: dict[str, list[str]] = {}

    def options(name: str) -> list[str]:
        if name not in written:
            if name == "demo":
                sizes = ["--data.train=16", "--data.val=4", "--data.test=14"]
                written[name] = [f"--data.root={request.getfixturevalue('tiny_demo')}", *sizes]
            elif name == "custom":
                written[name] = [f"--data.captions={request.getfixturevalue('tiny_custom')}"]
            else:
                root = tmp_path_factory.mktemp("data") / name
                more = request.getfixturevalue("write_miniature")(name, root)
                written[name] = [f"--data.root={root}", *(f"--data.{key}={value}" for key, value in more.items())]
        return written[name]

    return options


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
