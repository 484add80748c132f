"""The table that a user sees after a test."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from centerclip_pl.training.chosen import chosen_in_words
from centerclip_pl.training.results import Results

_METRICS = ("R@1", "R@5", "R@10", "MdR", "MnR")
_DIRECTIONS = {
    "t2v": "text to video",
    "v2t": "video to text",
    "t2v_order": "text to video, order or direction decides",
    "v2t_order": "video to text, order or direction decides",
}
_METHODS = {"dual_softmax": "dual softmax", "qb_norm": "QB-Norm"}


def format_table(results: Results, *, width: int = 100) -> str:
    """``results`` as a table for the terminal (plain text): metrics both ways, cost, counts, and where everything lies.

    Args:
        results: of :func:`centerclip_pl.training.results.read_results` or ``make_results``.
        width: columns of the terminal.
    """
    console = Console(file=StringIO(), width=width, force_terminal=False, color_system=None, highlight=False)
    console.print(Group(_metrics_table(results), _facts(results)))
    output = console.file
    assert isinstance(output, StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def _metrics_table(results: Results) -> RenderableType:
    counts = results["counts"]
    title = f"{results['dataset']}, {results['split']}: {counts['texts']} texts, {counts['videos']} videos"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for name in _METRICS:
        table.add_column(name, justify="right")
    for key, values in _by_direction(results["metrics"], results["split"]).items():
        cells = [f"{values[name]:.1f}" if name in values else "" for name in _METRICS]
        table.add_row(_DIRECTIONS.get(key, key), *cells)
    revised = results.get("transductive", {})
    if revised:
        table.add_section()
    for method, figures in revised.items():
        for key, values in _by_direction(figures, results["split"]).items():
            cells = [f"{values[name]:.1f}" if name in values else "" for name in _METRICS]
            name = f"{_DIRECTIONS.get(key, key)}, {_METHODS.get(method, method)} (transductive)"
            table.add_row(name, *cells)
    return table


def _by_direction(metrics: dict[str, float], split: str) -> dict[str, dict[str, float]]:
    """``{"test/t2v/R@1": 50.0}`` -> ``{"t2v": {"R@1": 50.0}}``, known directions first."""
    found: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        direction, _, name = key.removeprefix(f"{split}/").rpartition("/")
        if name in _METRICS:
            found.setdefault(direction, {})[name] = value
    known = [direction for direction in _DIRECTIONS if direction in found]
    return {direction: found[direction] for direction in [*known, *sorted(found.keys() - set(known))]}


def _facts(results: Results) -> RenderableType:
    """Label and value, a line each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("protocol", results["protocol"])
    grid.add_row("weights", chosen_in_words(results["selection"]))
    cost = results["cost"]
    if cost is not None:
        clustering = (
            f", {cost['clustering_ms_per_video']:.1f} of them clustering" if cost["clustering_ms_per_video"] else ""
        )
        grid.add_row(
            "cost",
            f"{cost['gmacs_per_video']:.2f} GMACs and {cost['encode_ms_per_video']:.1f} ms a video{clustering} "
            f"({cost['device']}, {cost['dtype']}, batch {cost['batch_size']}); "
            f"peak memory {cost['peak_memory_mb']:.0f} MiB ({cost['peak_memory_kind']})",
        )
    if results.get("transductive"):
        made = results.get("transductive_parameters", {})
        grid.add_row("transductive", "; ".join(_made_with(method, values) for method, values in made.items()))
    counts = results["counts"]
    published = counts.get("published_videos")
    if published is not None and published != counts["videos"]:
        note = "; fewer videos are easier to tell apart" if counts["videos"] < published else ""
        grid.add_row("not as published", f"{counts['videos']:,} videos in place of {published:,}{note}")
    bad = counts["bad_videos"]
    if bad:
        of_split = counts["missing_videos"] + counts["broken_videos"]
        names = ", ".join(video["video_id"] for video in bad[:3]) + (", ..." if len(bad) > 3 else "")
        grid.add_row(
            "left out", f"{len(bad)} videos that cannot be used, {of_split} of them in {results['split']}: {names}"
        )
    grid.add_row("time", f"{results['duration_seconds']:.0f} s in all, seed {results['seed']}")
    run_dir = Path(results["run_dir"])
    grid.add_row("results", str(run_dir / "results.json"))
    for label, name in (("curves", "metrics.csv"), ("options", "config.yaml"), ("weights in", "checkpoints")):
        if (run_dir / name).exists():
            grid.add_row(label, str(run_dir / name))
    return grid


def _made_with(method: str, values: dict[str, Any]) -> str:
    """``QB-Norm: beta 20, 16 training captions and 9 training videos``."""
    name = _METHODS.get(method, method)
    if method == "dual_softmax":
        return f"{name} over the test's queries: temperature {values['temperature']:g}"
    if method == "qb_norm":
        videos = f" and {values['bank_videos']:,} videos" if values["bank_videos"] else ""
        return f"{name}: beta {values['beta']:g}, bank of {values['bank_texts']:,} training captions{videos}"
    return name
