"""``demo-data``: generates the demo dataset without training."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import auto_cli


def demo_data(
    root: Path = Path("data/demo"),
    seed: int = 0,
    train: int = 2000,
    val: int = 200,
    test: int = 200,
    jobs: int | None = None,
) -> None:
    """Generates the demo dataset: videos of moving shapes, captions, and the scenes behind them.

    Args:
        root: folder to write; left alone if it holds this very dataset.
        seed: of the scenes and captions.
        train: number of training videos.
        val: number of validation videos.
        test: number of test videos.
        jobs: processes; default: one for each core.
    """
    from centerclip_pl.data.demo.generate import generate, is_complete

    if is_complete(root, seed, train, val, test):
        print(f"{root} holds the demo dataset already")
        return
    generate(root, seed, train, val, test, jobs)
    print(f"{root}: {train} training, {val} validation and {test} test videos, captions.csv, scenes.jsonl")


def demo_data_command(words: list[str]) -> None:
    """Runs `demo_data` with the options given."""
    auto_cli(demo_data, args=words, as_positional=False, exit_on_error=False, prog="centerclip demo-data")
