from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.cli import main
from centerclip_pl.cli.show_tokens import draw
from centerclip_pl.clustering import kmedoids
from centerclip_pl.errors import ConfigError
from centerclip_pl.plots.film_strips import _outline
from centerclip_pl.tokens import KMedoids
from centerclip_pl.training.seen_tokens import kept_tokens

FRAMES, GRID, SIDE = 6, 4, 32


def module(reduction: Any) -> TextVideoRetrieval:
    vision = {"hidden_size": 16, "num_hidden_layers": 4, "image_size": SIDE, "patch_size": SIDE // GRID}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 100, "max_position_embeddings": 16}
    config = CLIPConfig(
        text_config=text | {"num_attention_heads": 2, "intermediate_size": 16, "bos_token_id": 98, "eos_token_id": 99},
        vision_config=vision | {"num_attention_heads": 2, "intermediate_size": 32},
        projection_dim=16,
    )
    torch.manual_seed(0)
    return TextVideoRetrieval(config, reduction, num_frames=FRAMES).eval()


def noise() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (FRAMES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def save(model: TextVideoRetrieval, path: Path) -> Path:
    torch.save({"state_dict": model.state_dict(), "centerclip": model.architecture()}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(module(KMedoids(2, 3, 7)), tmp_path_factory.mktemp("run") / "best.ckpt")


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"metric": "cosine"}, {"normalize": True, "p": 1.0}, {"aggregation": "mean", "max_iterations": 2}]
)
def test_what_is_kept_is_what_clustering_chooses(options: dict[str, Any]) -> None:
    model = module(KMedoids(2, 3, 7, **options))
    kept = kept_tokens(model, noise())
    assert kept.shape == (3, 2, GRID, GRID)
    assert kept.dtype == torch.bool
    assert kept.flatten(1).sum(dim=1).tolist() == [7, 7, 7]
    # By hand: two blocks without hooks, then each segment's patch tokens, frame by frame.
    vision = module(None).video.vision
    pictures = (noise().float() / 255 - model.video.mean) / model.video.std
    states = vision.pre_layrnorm(vision.embeddings(pictures))
    for block in vision.encoder.layers[:2]:
        states = block(states, None)
    segments = torch.stack([torch.cat([states[2 * s, 1:], states[2 * s + 1, 1:]]) for s in range(3)])
    choosing = {name: value for name, value in options.items() if name != "aggregation"}
    for s, chosen in enumerate(kmedoids(segments, 7, **choosing).medoids.tolist()):
        expected = np.zeros((2, GRID, GRID), dtype=bool)
        for index in chosen:
            frame, patch = divmod(index, GRID * GRID)
            expected[frame, patch // GRID, patch % GRID] = True
        assert (kept[s].numpy() == expected).all()


def test_looking_changes_nothing() -> None:
    model = module([KMedoids(1, 3, 12), KMedoids(3, 1, 5)])
    before = model.encode_video(noise()[None]).segments
    kept = kept_tokens(model, noise())
    assert kept.flatten(1).sum(dim=1).tolist() == [12, 12, 12]  # of the first of several
    assert torch.equal(model.encode_video(noise()[None]).segments, before)
    assert not model.reducers[0]._forward_pre_hooks


def test_a_model_without_clustering() -> None:
    with pytest.raises(ConfigError, match="has no reducer that chooses tokens") as caught:
        kept_tokens(module(None), noise())
    assert "METHOD=kmedoids" in str(caught.value.next_step)


def test_outlines_are_the_borders_between_kept_and_dropped() -> None:
    kept = np.zeros((3, 3), dtype=bool)
    kept[0, 0] = kept[0, 1] = True  # two patches side by side: a border of 2 + 2 + 1 + 1 sides, none between them
    lines = {tuple(sorted(line)) for line in _outline(kept, 100.0, 50.0, 10)}
    level = {((x, y), (x + 10, y)) for x in (100.0, 110.0) for y in (50.0, 60.0)}
    upright = {((x, 50.0), (x, 60.0)) for x in (100.0, 120.0)}
    assert lines == level | upright
    assert _outline(np.zeros((3, 3), dtype=bool), 0.0, 0.0, 10) == []


def shown(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)


def share(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(pixels - np.array(colour)).max(axis=1) <= 3).mean())


def test_kept_is_bright_and_dropped_is_dark(tmp_path: Path) -> None:
    red = torch.zeros(FRAMES, 3, SIDE, SIDE, dtype=torch.uint8)
    red[:, 0] = 240
    shares = []
    for number in (0, GRID * GRID // 2, GRID * GRID):
        kept = torch.zeros(3, 2, GRID * GRID, dtype=torch.bool)
        kept[:, :, :number] = True
        draw(red, kept.view(3, 2, GRID, GRID), tmp_path / "x.png", "a title")
        shares.append(share(shown(tmp_path / "x.png"), (240, 0, 0)))
    none, half, everything = shares
    assert none > 0.2  # the frames themselves
    assert half == pytest.approx(1.5 * none, rel=0.05)
    assert everything == pytest.approx(2 * none, rel=0.05)


@pytest.mark.parametrize(("segments", "each", "lines"), [(4, 3, 1), (15, 4, 5), (1, 16, 1), (13, 1, 2)])
def test_many_segments_take_several_lines(tmp_path: Path, segments: int, each: int, lines: int) -> None:
    frames = torch.zeros(segments * each, 3, SIDE, SIDE, dtype=torch.uint8)
    draw(frames, torch.ones(segments, each, GRID, GRID, dtype=torch.bool), tmp_path / "x.png", "a title")
    with Image.open(tmp_path / "x.png") as picture:
        assert lines * 300 < picture.height < lines * 420 + 100
        assert picture.width < 3000


def test_a_failure_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"what was there before")

    def full(self: Figure, file: Path, **_: Any) -> NoReturn:
        file.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space"):
        draw(noise(), torch.ones(3, 2, GRID, GRID, dtype=torch.bool), path, "a title")
    assert os.listdir(tmp_path) == ["x.png"]
    assert path.read_bytes() == b"what was there before"


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command(checkpoint: Path, make_video: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = make_video(tmp_path / "clip.mp4", 24, color_fn=lambda i: (10 * i, 90, 200 - 5 * i))
    titles: list[str] = []
    suptitle = Figure.suptitle

    def remember(self: Figure, title: str, **options: Any) -> Any:
        titles.append(title)
        return suptitle(self, title, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "suptitle", remember)
        output = tmp_path / "new" / "folder" / "tokens.png"
        main(["show-tokens", str(video), "--checkpoint", str(checkpoint), "--output", str(output)])
        assert capsys.readouterr().out == f"{output}\n"
        assert os.listdir(output.parent) == ["tokens.png"]
        with Image.open(output) as picture:
            assert picture.width > 600
        short = make_video(tmp_path / "short.mp4", 4)
        main(["show-tokens", str(short), "--checkpoint", str(checkpoint), "--output", str(output)])
    assert titles[0] == "clip.mp4: k-medoids after block 2 keeps 7 of 32 patch tokens a segment (22%)"
    assert titles[1].splitlines()[1] == "the video has 4 frames; the last one is repeated"


def test_mistakes(
    checkpoint: Path,
    make_video: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    broken_videos: dict[str, Path],
) -> None:
    video = make_video(tmp_path / "clip.mp4", 8)
    baseline = save(module(None), tmp_path / "baseline.ckpt")
    absent, picture = tmp_path / "absent.ckpt", tmp_path / "x.png"
    (tmp_path / "file").touch()
    for words, says in (
        ([video, "--checkpoint", baseline, "--output", picture], ["no reducer that chooses tokens", "METHOD=kmedoids"]),
        ([video, "--checkpoint", absent, "--output", picture], [f"checkpoint {absent}: there is no such file"]),
        ([video, "--checkpoint", video, "--output", picture], [f"checkpoint {video}: is no checkpoint"]),
        ([video, "--checkpoint", checkpoint, "--output", tmp_path / "x.jpg"], ["x.jpg, but must end in .png"]),
        ([video, "--checkpoint", checkpoint, "--output", tmp_path / "file/x.png"], ["file/x.png cannot be written"]),
        ([absent, "--checkpoint", checkpoint, "--output", picture], [f"{absent}: there is no such file"]),
        ([broken_videos["text"], "--checkpoint", checkpoint, "--output", picture], [str(broken_videos["text"])]),
        ([video, "--output", picture], ["checkpoint", "centerclip show-tokens --help"]),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["show-tokens", *map(str, words)])
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        for part in says:
            assert part in message
        assert "Traceback" not in message
        assert not picture.exists()
