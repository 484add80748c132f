"""``cost``: measures the time of finished runs again, one at a time, on a machine that does nothing else."""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from centerclip_pl.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from centerclip_pl.training.cost import Cost
    from centerclip_pl.training.results import Selection

_DESCRIPTION = """Measures what encoding a video takes with the weights of each run, and puts it into the run's
results.json in place of what was measured when the run ended: beside other runs on the same cores, say. Operations and
times are replaced; the memory that the run needed stays. One run after the other; let the machine do nothing else."""


def cost_command(words: list[str]) -> None:
    """Measures runs again: ``cost [RUNS ...] [--repetitions N]``.

    Args:
        words: behind ``centerclip cost``.

    Raises:
        DataError: there are no runs, or results.json cannot be read.
        CheckpointError: a run has no weights any more; none has been measured then.
    """
    options = _parser().parse_args(words)
    if options.repetitions < 1:
        raise ConfigError(f"--repetitions is {options.repetitions}", "give at least 1")
    from centerclip_pl.runs.local import find_local

    checkpoints: dict[Path, Path] = {}
    seen: set[Path] = set()  # a run that two of the sources have is measured once
    for source in options.runs:
        found = find_local(Path(source), seen)
        if found.bad:
            raise DataError(found.bad[0], "mend the file, or test the run again")
        # All are looked for before any is measured.
        checkpoints |= {Path(run.name): _checkpoint(Path(run.name), run.results["selection"]) for run in found.runs}
    if not checkpoints:
        raise DataError(f"there is no results.json below {', '.join(options.runs)}", "it appears after a test")
    for number, (folder, checkpoint) in enumerate(checkpoints.items(), start=1):
        cost = measure(folder, checkpoint, options.repetitions)
        times = (
            f"{cost['encode_ms_per_video']:.2f} ms a video, {cost['clustering_ms_per_video']:.2f} of them clustering"
        )
        print(f"[{number}/{len(checkpoints)}] {folder}: {times}", flush=True)


def measure(folder: Path, checkpoint: Path, repetitions: int) -> Cost:
    """Measures a run's cost with the first video of its test split, and writes it into its ``results.json``.

    Args:
        folder: the run's, with ``config.yaml`` and ``results.json``.
        checkpoint: its weights.
        repetitions: of the measurement.

    Returns:
        The new cost.
    """
    import torch

    from centerclip_pl.cli.lightning import run
    from centerclip_pl.training.callbacks import autocast_of
    from centerclip_pl.training.cost import measure_cost
    from centerclip_pl.training.results import read_results, write_results

    with tempfile.TemporaryDirectory(prefix="centerclip-cost-") as elsewhere:
        words = ["test", "--config", str(folder / "config.yaml"), f"--ckpt_path={checkpoint}", f"--run_dir={elsewhere}"]
        quiet = ["--verbose=false", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
        # Nothing else may run meanwhile: processes that decode would go on with the next batches.
        quiet += ["--data.num_workers=0", "--postprocess.methods=[]"]
        cli = _silently(run, [*words, *quiet, "--trainer.limit_test_batches=1"])
        batch = next(iter(cli.trainer.test_dataloaders))
        frames, mask = batch["frames"][:1], torch.ones_like(batch["frame_mask"][:1])
        cost = measure_cost(cli.model, frames, mask, repetitions=repetitions, autocast=autocast_of(cli.trainer))
    results = read_results(folder / "results.json")
    if results["cost"] is not None:
        before = results["cost"]
        cost["peak_memory_mb"], cost["peak_memory_kind"] = before["peak_memory_mb"], before["peak_memory_kind"]
    cost["measured_again"] = datetime.now(UTC).isoformat(timespec="seconds")
    results["cost"] = cost
    write_results(folder / "results.json", results)
    return cost


def _checkpoint(folder: Path, selection: Selection) -> Path:
    """The weights that a run's results are of, wherever the folder is now."""
    path = selection["path"]
    name = "last.ckpt" if path is None else Path(path).name
    for candidate in (folder / "checkpoints" / name, Path(path or "")):
        if candidate.is_file() and (folder / "config.yaml").is_file():
            return candidate
    raise CheckpointError(
        f"{folder}: its weights ({folder / 'checkpoints' / name}) or its config.yaml are not there",
        "measure where the run has its checkpoint",
    )


def _silently(run: Any, words: list[str]) -> Any:
    """Runs a command without the table that it prints: its figures are of one batch."""
    import contextlib
    import io

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            return run(words)
    except Exception:
        print(said.getvalue(), file=sys.stderr)
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="centerclip cost", allow_abbrev=False, description=_DESCRIPTION)
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs; all below them are measured")
    parser.add_argument("--repetitions", type=int, default=20, help="passes of which the median is taken")
    return parser
