"""``show-tokens``: a picture of which tokens of a video are kept."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser
from torch import Tensor

from centerclip_pl.errors import ConfigError, VideoError
from centerclip_pl.files import replacing
from centerclip_pl.plots.film_strips import film_strips
from centerclip_pl.training.checkpoints import load_checkpoint
from centerclip_pl.training.seen_tokens import choosing_reducer, kept_tokens
from centerclip_pl.video.clips import read_clip


def draw(frames: Tensor, kept: Tensor, path: Path, title: str) -> None:
    """Writes a picture of :func:`film_strips`.

    Args:
        frames: uint8 ``[T, 3, H, W]``.
        kept: bool ``[S, D, grid, grid]``, with S * D = T.
        path: the PNG file to write; it appears whole or not at all.
        title: above the picture.
    """
    figure = film_strips(frames, kept, title)
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png", facecolor="white", bbox_inches="tight", pad_inches=0.12)


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
    frames, available = read_clip(video, model.num_frames, model.image_size)
    kept = kept_tokens(model, frames)
    reducer = choosing_reducer(model)
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
