"""``show-tokens``: a picture of which tokens of a video are kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jsonargparse import ArgumentParser
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor, nn

from centerclip_pl.errors import ConfigError, VideoError
from centerclip_pl.files import replacing
from centerclip_pl.tokens import TokenSelection
from centerclip_pl.tokens.segments import frames_per_segment, split_segments
from centerclip_pl.training.checkpoints import load_checkpoint
from centerclip_pl.training.module import TextVideoRetrieval
from centerclip_pl.video.decode import read_frames
from centerclip_pl.video.sampling import uniform_indices
from centerclip_pl.video.transforms import resize_and_crop

_FRAMES_A_LINE = 12
_INCHES = 1.35  # side of a frame
_INK, _EDGE = "#222222", "#ffd400"


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
    reducers = [r for r in model.reducers if isinstance(r, TokenSelection)]
    if not reducers:
        raise ConfigError(
            "the model has no reducer that chooses tokens",
            "use a checkpoint that was trained with METHOD=kmedoids, spectral or sparse",
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
            indices = reducer.select(split_segments(tokens, each)[1], each)  # (S, K)
    finally:
        handle.remove()
    kept = torch.zeros(reducer.segments, each * grid * grid, dtype=torch.bool)
    kept.scatter_(1, indices.cpu(), True)
    return kept.view(reducer.segments, each, grid, grid)  # (S, D*N) -> (S, D, grid, grid)


def draw(frames: Tensor, kept: Tensor, path: Path, title: str) -> None:
    """Draws a video as film strips: each segment's frames, and below each frame what is kept of it.

    Kept patches are bright and outlined, the others grey and dark. Segments stand side by side, in as many lines as
    they need.

    Args:
        frames: uint8 ``[T, 3, H, W]``.
        kept: bool ``[S, D, grid, grid]``, with S * D = T.
        path: the PNG file to write; it appears whole or not at all.
        title: above the picture.
    """
    segments, each = kept.shape[:2]
    a_line = min(segments, max(1, _FRAMES_A_LINE // each))
    lines = math.ceil(segments / a_line)
    width, height = max(each * _INCHES * a_line + 0.7, 6.0), lines * (2 * _INCHES + 0.35) + 0.6
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.09, wspace=0.0))
    axes = figure.subplots(lines, a_line, squeeze=False)
    pictures = frames.permute(0, 2, 3, 1).unflatten(0, (segments, each)).numpy()  # (T, 3, H, W) -> (S, D, H, W, 3)
    for s, ax in enumerate(axes.flat):
        if s >= segments:
            ax.axis("off")
            continue
        _draw_segment(ax, pictures[s], kept[s].numpy())
        first, last = s * each + 1, (s + 1) * each
        covers = "" if each == 1 else f": frames {first} to {last}"
        ax.set_title(f"segment {s + 1}{covers}", fontsize=9, color=_INK, pad=4)
        if s % a_line:
            ax.set_yticks([])
    figure.suptitle(title, fontsize=10, color=_INK)
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png", facecolor="white", bbox_inches="tight", pad_inches=0.12)


def _draw_segment(ax: Axes, pictures: np.ndarray, kept: np.ndarray) -> None:
    """A segment's frames ``[D, H, W, 3]`` in a row, below them what ``kept [D, grid, grid]`` says of each."""
    each, height, side, _ = pictures.shape
    grid = kept.shape[1]
    patch, gap = side // grid, max(2, side // 32)
    canvas = np.full((2 * height + gap, each * (side + gap) - gap, 3), 255, dtype=np.uint8)
    bright = np.zeros((each, height, side, 1), dtype=bool)
    bright[:, : grid * patch, : grid * patch, 0] = kept.repeat(patch, axis=1).repeat(patch, axis=2)
    dark = pictures.mean(axis=-1, keepdims=True) * 0.3 + 22
    shown = np.where(bright, pictures, dark).astype(np.uint8)
    for d in range(each):
        left, top = d * (side + gap), height + gap
        canvas[:height, left : left + side] = pictures[d]
        canvas[top:, left : left + side] = shown[d]
        ax.add_collection(LineCollection(_outline(kept[d], left - 0.5, top - 0.5, patch), colors=_EDGE, linewidths=0.8))
    ax.imshow(canvas, interpolation="nearest" if side < 150 else "antialiased")
    ax.set_xticks([])
    ax.set_yticks([height / 2, height * 1.5 + gap], ["video", "kept"], rotation=90, va="center", fontsize=9, color=_INK)
    ax.tick_params(length=0)
    ax.set_frame_on(False)


def _outline(kept: np.ndarray, left: float, top: float, patch: int) -> list[list[tuple[float, float]]]:
    """The borders between kept and dropped patches of a ``[grid, grid]`` mask, as lines ``[(x, y), (x, y)]``."""
    padded = np.pad(kept, 1)
    lines = []
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):  # upright, between column - 1 and column
        x, y = left + column * patch, top + (row - 1) * patch
        lines.append([(x, y), (x, y + patch)])
    for row, column in np.argwhere(padded[1:] != padded[:-1]):  # level, between row - 1 and row
        x, y = left + (column - 1) * patch, top + row * patch
        lines.append([(x, y), (x + patch, y)])
    return lines


def show_tokens(video: Path, checkpoint: Path, output: Path = Path("tokens.png")) -> None:
    """Draws the frames of each segment of a video with the kept tokens bright and the dropped ones dimmed.

    Args:
        video: the video file.
        checkpoint: of a run with a method that chooses tokens, such as runs/.../checkpoints/best.ckpt.
        output: the PNG file to write.
    """
    if output.suffix.lower() != ".png":
        raise ConfigError(f"output is {output}, but must end in .png")
    if not video.is_file():
        raise VideoError(video, "there is no such file", "name a video file")
    model = load_checkpoint(checkpoint)
    available = 0

    def choose(count: int) -> list[int]:
        nonlocal available
        available = count
        return uniform_indices(count, model.num_frames)

    frames = resize_and_crop(read_frames(video, choose), model.image_size)
    kept = kept_tokens(model, frames)
    reducer = next(r for r in model.reducers if isinstance(r, TokenSelection))
    share = kept.float().mean().item()
    title = (
        f"{video.name}: {reducer.name} after block {reducer.after_block} keeps {reducer.clusters} of {kept[0].numel()} "
        f"patch tokens a segment ({share:.0%})"
    )
    if available < model.num_frames:
        title += f"\nthe video has {available} frames; the last one is repeated"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draw(frames, kept, output, title)
    except OSError as error:
        raise ConfigError(
            f"output {output} cannot be written: {error}", "name another file: --output=FILE.png"
        ) from error
    print(output)


def show_tokens_command(words: list[str]) -> None:
    """Runs `show_tokens`: ``show-tokens VIDEO --checkpoint FILE [--output FILE.png]``."""
    parser = ArgumentParser(prog="centerclip show-tokens", description=show_tokens.__doc__, exit_on_error=False)
    parser.add_argument("video", type=Path, help="the video file")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a run with a method that chooses tokens")
    parser.add_argument("--output", type=Path, default=Path("tokens.png"), help="the PNG file to write")
    options = parser.parse_args(words)
    show_tokens(options.video, options.checkpoint, options.output)
