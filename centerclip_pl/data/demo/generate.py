"""Writes the demo dataset: H.264 videos, a table of captions, and the scenes behind them."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from centerclip_pl.cores import usable_cores
from centerclip_pl.data.demo.render import render_video
from centerclip_pl.data.demo.splits import DemoVideo, make_split
from centerclip_pl.data.demo.world import Scene
from centerclip_pl.errors import DataError

VERSION = 2
"""Of the generator: a folder that another version wrote is not taken for this one's."""
SIDE = 128
FRAMES_PER_SECOND = 12
TRAIN_CAPTIONS = 4
_FACTS = "demo.json"


def is_complete(root: Path, seed: int, train: int, val: int, test: int) -> bool:
    """Whether the folder holds the demo dataset of these numbers.

    Raises:
        DataError: if it holds something else.
    """
    facts = root / _FACTS
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is not a folder", "name another with --data.root")
    if not root.exists() or not any(root.iterdir()):
        return False
    wanted = _facts(seed, train, val, test)
    try:
        found = json.loads(facts.read_text())
    except (OSError, ValueError):
        found = None
    if found != wanted:
        ours = isinstance(found, dict) and found.keys() == wanted.keys()
        held = f"the demo dataset of {found}" if ours else "something else"
        another = "name another folder with --data.root"
        # Nobody is told to delete a folder that this program did not write.
        raise DataError(
            f"{root} holds {held}, not the demo dataset of {wanted}",
            f"{another}, or remove this one (rm -r {root})" if ours else another,
        )
    return True


def generate(
    root: Path, seed: int = 0, train: int = 2000, val: int = 200, test: int = 200, jobs: int | None = None
) -> None:
    """Writes the dataset into a new folder.

    The folder appears whole or not at all. The same arguments (and version of the encoder) give the same bytes, so of
    two processes that generate it at the same time, the first to end provides it.

    Args:
        root: the folder; must be absent or empty.
        seed: of everything drawn.
        train: number of training videos, with `TRAIN_CAPTIONS` captions each.
        val: number of validation videos, with one caption each.
        test: number of test videos, with one caption each.
        jobs: processes; None: one for each core.
    """
    videos = [
        *make_split("train", train, seed, captions_each=TRAIN_CAPTIONS, distinct=False),
        *make_split("val", val, seed),
        *make_split("test", test, seed),
    ]
    root.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        (staging / "videos").mkdir()
        _write_videos(videos, staging / "videos", jobs or usable_cores())
        _write_tables(videos, staging)
        (staging / _FACTS).write_text(json.dumps(_facts(seed, train, val, test)) + "\n")
        staging.chmod(0o755)
        try:
            os.replace(staging, root)
        except OSError:
            if not is_complete(root, seed, train, val, test):
                raise
            shutil.rmtree(staging, ignore_errors=True)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _facts(seed: int, train: int, val: int, test: int) -> dict[str, int]:
    return {"version": VERSION, "seed": seed, "train": train, "val": val, "test": test}


def _write_videos(videos: list[DemoVideo], folder: Path, jobs: int) -> None:
    tasks = [(video.scene, str(folder / f"{video.video_id}.mp4")) for video in videos]
    # spawn: a process that has used torch's threads must not fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        done = pool.map(_write_task, tasks, chunksize=16)
        for _ in tqdm(done, total=len(tasks), desc="generating the demo's videos", unit="video"):
            pass


def _write_task(task: tuple[Scene, str]) -> None:
    scene, path = task
    write_video(render_video(scene, SIDE), path)


def write_video(frames: np.ndarray, path: str | Path, frames_per_second: int = FRAMES_PER_SECOND) -> None:
    """Encodes frames, uint8 ``[T, H, W, 3]``, as H.264 in an mp4 file."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=frames_per_second, options={"crf": "18", "preset": "veryfast", "g": "12", "threads": "1"}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_tables(videos: list[DemoVideo], folder: Path) -> None:
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "video_id", "file", "caption", "tag"])
        for video in videos:
            for caption in video.captions:
                tag = "" if video.twin is None else "order"
                writer.writerow([video.split, video.video_id, f"videos/{video.video_id}.mp4", caption.text, tag])
    with (folder / "scenes.jsonl").open("w") as file:
        for video in videos:
            facts = {
                "video_id": video.video_id,
                "twin": video.twin,
                "scene": asdict(video.scene),
                "claims": [asdict(caption.claims) for caption in video.captions],
            }
            file.write(json.dumps(facts) + "\n")
