"""A real module of the smallest kind on batches that are made up, with a datamodule that knows their names."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning as L
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.types import Batch

VIDEOS, FRAMES = 8, 2


class NoiseData(L.LightningDataModule):
    """Eight videos of noise with a caption each, in four batches of two; ``bad``: videos whose frames hold NaN."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.frames = torch.randn(VIDEOS, FRAMES, 3, 16, 16, generator=generator)
        self.ids = torch.randint(0, 50, (VIDEOS, 6), generator=generator)
        self.ids[:, -1] = 59
        for video in bad:
            self.frames[video, 0, 0, 0, 0] = float("nan")

    def _batch(self, rows: list[int]) -> Batch:
        videos = torch.tensor(rows)
        return Batch(
            frames=self.frames[videos],
            frame_mask=torch.ones(len(rows), FRAMES, dtype=torch.bool),
            video_ids=videos,
            input_ids=self.ids[videos],
            attention_mask=torch.ones_like(self.ids[videos]),
            text_ids=videos,
            video_of_text=videos,
        )

    def _loader(self) -> Any:
        return DataLoader(range(VIDEOS), batch_size=2, collate_fn=self._batch)

    train_dataloader = val_dataloader = test_dataloader = _loader

    def videos(self, split: str) -> list[str]:
        return [f"{split}{video}" for video in range(VIDEOS)]

    def captions(self, split: str) -> pd.DataFrame:
        ids = self.videos(split)
        return pd.DataFrame(
            {"video_id": ids, "path": [f"/v/{name}.mp4" for name in ids], "caption": [f"noise of {n}" for n in ids]}
        )

    def tagged_texts(self, split: str) -> dict[str, list[int]]:
        return {}


@pytest.fixture
def noise_data() -> Callable[..., NoiseData]:
    return NoiseData


@pytest.fixture
def small_model() -> Callable[..., TextVideoRetrieval]:
    """``small_model(**options)``: the same random weights each time."""

    def build(**options: Any) -> TextVideoRetrieval:
        torch.manual_seed(0)
        tower = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3}
        text = tower | {"vocab_size": 60, "max_position_embeddings": 8, "bos_token_id": 58, "eos_token_id": 59}
        config = CLIPConfig(
            text_config=text, vision_config=tower | {"image_size": 16, "patch_size": 8}, projection_dim=8
        )
        return TextVideoRetrieval(backbone=config, num_frames=FRAMES, **options)

    return build


@pytest.fixture
def small_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    """``small_trainer(*callbacks, **options)``: nothing is logged or written but by the callbacks."""

    def build(*callbacks: L.Callback, **options: Any) -> L.Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        usual = {"logger": False, "max_epochs": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
        return L.Trainer(
            accelerator="cpu",
            devices=1,
            default_root_dir=tmp_path,
            callbacks=list(callbacks),
            **(quiet | usual | options),
        )

    return build


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """``small_disk(bytes)``: a folder on a file system of that size. Skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root may mount a small file system")
        mounted.append(folder)
        return folder

    yield mount
    for each in mounted:
        subprocess.run(["umount", "--lazy", str(each)], check=True)


@pytest.fixture
def fake_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``fake_wandb(mode)``: a server (``fake_wandb.py``) that this process's W&B takes for its own, with a key."""
    import wandb

    spec = importlib.util.spec_from_file_location("fake_wandb", Path(__file__).with_name("fake_wandb.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    servers = []

    def serve(mode: str = "ok") -> Any:
        server = module.FakeWandb(mode)
        servers.append(server)
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        monkeypatch.setenv("WANDB_API_KEY", module.KEY)
        wandb.teardown()  # what an earlier test has read from its environment
        return server

    yield serve
    for server in servers:
        server.refuse()
    with contextlib.suppress(Exception):
        wandb.teardown()


@pytest.fixture(scope="session")
def cli_fixtures() -> ModuleType:
    """``tests/cli/conftest.py``, whose small dataset and backbone are used here too."""
    spec = importlib.util.spec_from_file_location("cli_conftest", Path(__file__).parents[1] / "cli/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_demo(cli_fixtures: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = cli_fixtures.tiny_demo.__wrapped__(tmp_path_factory)
    return made


@pytest.fixture(scope="session")
def tiny_backbone(cli_fixtures: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = cli_fixtures.tiny_backbone.__wrapped__(tmp_path_factory)
    return made
