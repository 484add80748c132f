"""``show-tokens``: a picture of which tokens of a video are kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from centerclip_pl.errors import ConfigError, VideoError
from centerclip_pl.tokens import KMedoids
from centerclip_pl.tokens.segments import frames_per_segment, split_segments
from centerclip_pl.training.checkpoints import load_checkpoint
from centerclip_pl.training.module import TextVideoRetrieval
from centerclip_pl.video.decode import read_frames
from centerclip_pl.video.sampling import uniform_indices
from centerclip_pl.video.transforms import resize_and_crop


def kept_tokens(model: TextVideoRetrieval, frames: Tensor) -> Tensor:
    """Which patches of a video the model's first reducer keeps.

    Args:
        model: with a reducer that chooses tokens.
        frames: uint8 ``[T, 3, H, W]``.

    Returns:
        bool ``[S, T / S, grid, grid]``, true where the patch is a centre of its segment.

    Raises:
        ConfigError: if the model has no such reducer.
    """
    reducers = [r for r in model.reducers if isinstance(r, KMedoids)]
    if not reducers:
        raise ConfigError(
            "the model keeps all tokens: it has no clustering", "use a checkpoint that was trained with METHOD=kmedoids"
        )
    reducer, grid = reducers[0], model.video.grid
    seen: list[tuple[Tensor, int]] = []

    def remember(module: nn.Module, args: tuple[Tensor, int]) -> None:
        seen.append(args)

    handle = reducer.register_forward_pre_hook(remember)
    try:
        with torch.inference_mode():
            model.encode_video(frames.unsqueeze(0))
            tokens, coming = seen[0]
            each = frames_per_segment(coming, reducer.segments)
            medoids = reducer.cluster(split_segments(tokens, each)[1]).medoids  # (S, K)
    finally:
        handle.remove()
    kept = torch.zeros(reducer.segments, each * grid * grid, dtype=torch.bool)
    kept.scatter_(1, medoids.cpu(), True)
    return kept.view(reducer.segments, each, grid, grid)  # (S, D*N) -> (S, D, grid, grid)


def draw(frames: Tensor, kept: Tensor, path: Path, title: str) -> None:
    """Draws a video's frames, a row a segment, kept patches bright and the others dimmed.

    Args:
        frames: uint8 ``[T, 3, H, W]``.
        kept: bool ``[S, D, grid, grid]``.
        path: the PNG file to write.
        title: above the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    segments, each, grid, _ = kept.shape
    side = frames.shape[-1]
    bright = kept.numpy().repeat(side // grid, axis=2).repeat(side // grid, axis=3)  # (S, D, H, W)
    pictures = (
        frames.permute(0, 2, 3, 1).reshape(segments, each, side, side, 3).numpy()
    )  # (T, 3, H, W) -> (S, D, H, W, 3)
    grey = pictures.mean(axis=-1, keepdims=True) * 0.25 + 18
    shown = np.where(bright[..., None], pictures, grey).astype(np.uint8)
    figure, axes = plt.subplots(
        segments, 2 * each, figsize=(1.7 * 2 * each, 1.75 * segments + 0.9), squeeze=False, layout="constrained"
    )
    for s in range(segments):
        for d in range(each):
            for column, picture in ((d, pictures[s, d]), (each + d, shown[s, d])):
                axes[s, column].imshow(picture, interpolation="nearest")
                axes[s, column].set_xticks([])
                axes[s, column].set_yticks([])
                if s == 0:
                    half = "frame" if column < each else "kept of frame"
                    axes[s, column].set_title(f"{half} {d + 1}", fontsize=9)
        share = kept[s].float().mean().item()
        axes[s, 0].set_ylabel(f"segment {s + 1}\n{int(kept[s].sum())} tokens, {share:.0%}", fontsize=9)
    figure.suptitle(title, fontsize=10)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, dpi=110, format="png")
    plt.close(figure)
    os.replace(part, path)


def show_tokens(video: Path, checkpoint: Path, output: Path = Path("tokens.png")) -> None:
    """Draws the frames of each segment of a video with the kept tokens bright and the dropped ones dimmed.

    Args:
        video: the video file.
        checkpoint: of a run with clustering, such as runs/.../checkpoints/best.ckpt.
        output: the PNG file to write.
    """
    if output.suffix.lower() != ".png":
        raise ConfigError(f"output is {output}, but must end in .png")
    if not video.is_file():
        raise VideoError(video, "there is no such file", "name a video file")
    model = load_checkpoint(checkpoint)
    raw = read_frames(video, lambda available: uniform_indices(available, model.num_frames))
    frames = resize_and_crop(raw, model.image_size)
    kept = kept_tokens(model, frames)
    output.parent.mkdir(parents=True, exist_ok=True)
    reducer = next(r for r in model.reducers if isinstance(r, KMedoids))
    title = (
        f"{video.name}: k-medoids after block {reducer.after_block}, {kept.sum()} of {kept.numel()} patch tokens kept"
    )
    draw(frames, kept, output, title)
    print(output)


def show_tokens_command(words: list[str]) -> None:
    """Runs `show_tokens`: ``show-tokens VIDEO --checkpoint FILE [--output FILE.png]``."""
    if words and not words[0].startswith("-"):
        words = ["--video", *words]
    auto_cli(show_tokens, args=words, as_positional=False, exit_on_error=False, prog="centerclip show-tokens")
